-- Who publishes which partition, and how far. Kafka's own tail is the truth about what was published; progress is
-- a hint for those who wait for it, so a crash may lose its last rows.

-- Relays that are alive, to share the partitions among.
create table relays (
    owner uuid primary key,
    expires_at timestamptz not null
);

-- The epoch grows with every change of owner: what an owner of yesterday says is recognised by its epoch.
create table relay_leases (
    partition int primary key,
    owner uuid,
    epoch bigint not null default 0,
    expires_at timestamptz not null default '-infinity'
) with (fillfactor = 20);

create table relay_progress (
    partition int primary key,
    position bigint not null
) with (fillfactor = 20);

-- Settles the number of partitions on the first call; later calls change nothing.
create function settle_partitions(wanted int) returns void language sql as $$
    insert into settings (partitions) values (wanted) on conflict do nothing;
    insert into heads (partition, position)
    select partition, 0 from settings, generate_series(0, partitions - 1) as partition
    on conflict do nothing;
    insert into relay_leases (partition) select partition from heads on conflict do nothing;
    insert into relay_progress (partition, position) select partition, 0 from heads on conflict do nothing;
$$;
