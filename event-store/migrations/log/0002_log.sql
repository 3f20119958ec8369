-- The log: events in partitions, each with positions 1, 2, 3 … without a gap.

-- One row. The number of partitions decides where every event lives, so a log has it for life.
create table settings (
    only_row boolean primary key default true check (only_row),
    partitions int not null check (partitions > 0)
);

-- The last position of each partition. Its row lock is what orders appends: commit order equals position order.
-- Updated by every append: room on the page keeps these updates off the index.
create table heads (
    partition int primary key,
    position bigint not null check (position >= 0)
) with (fillfactor = 20);

-- aggregate_id is text because the stock PostgresEventRepository compares it with text; "C" makes that a memcmp.
create table events (
    partition int not null,
    position bigint not null check (position > 0),
    aggregate_type text not null,
    aggregate_id text collate "C" not null,
    sequence bigint not null check (sequence > 0),
    subject uuid not null,
    event_type text not null,
    event_version text not null,
    key_id uuid not null,
    -- The clock of the process that sealed the event: kept for people, never compared or ordered by.
    recorded_at timestamptz not null,
    traceparent text,
    sealed bytea not null,
    primary key (partition, position),
    -- Two appends of one stream wait for the same head; this also catches an aggregate id reused under another subject.
    constraint events_stream unique (aggregate_id, aggregate_type, sequence)
);

-- Ciphertext does not compress: trying costs time and wins nothing.
alter table events alter column sealed set storage external;

-- "What has this patient of this kind, and did any more come after position N?"
create index events_subject on events (subject, aggregate_type, position);

-- History is not changed: not by a grant given in error, not by the owner, not by a superuser in a hurry.
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'events are never changed or removed' using errcode = 'restrict_violation';
end $$;

create trigger events_append_only before update or delete or truncate on events
    for each statement execute function refuse_change();

-- What was answered under an Idempotency-Key. The key is a keyed hash of actor and key.
create table idempotency (
    key bytea primary key,
    fingerprint bytea not null,
    response jsonb not null,
    partitions int[] not null,
    positions bigint[] not null,
    recorded_at timestamptz not null
);
create index idempotency_recorded_at on idempotency (recorded_at);

-- Facts that are true once. The claim is a keyed hash of kind and value.
create table claims (
    claim bytea primary key,
    kind text not null,
    holder_type text not null,
    holder_id uuid not null,
    -- Where the holder's events are, so that claims can move with them when partitions spread over servers.
    partition int not null,
    taken_at timestamptz not null
);

-- Positions that came back from Kafka, with claims that are not settled yet. Nothing is accepted while there are any.
create table restored (
    partition int primary key,
    from_position bigint not null,
    to_position bigint not null
);

-- Sealed states of long streams: a shortcut, safe to truncate.
create table snapshots (
    aggregate_type text not null,
    aggregate_id text collate "C" not null,
    sequence bigint not null,
    key_id uuid not null,
    sealed bytea not null,
    primary key (aggregate_id, aggregate_type)
);
alter table snapshots alter column sealed set storage external;

-- The log in the column layout of postgres-es, so that a stock PostgresEventRepository can read it.
create view event_streams as
select aggregate_type, aggregate_id, sequence, event_type, event_version,
       json_build_object('sealed', translate(encode(sealed, 'base64'), E'\n', '')) as payload,
       json_build_object('partition', partition, 'position', position, 'subject', subject, 'key_id', key_id,
                         'recorded_at', recorded_at, 'traceparent', traceparent) as metadata
from events;

-- Its snapshot table. Always empty: a snapshot in the clear is not ours to keep.
create view event_snapshots as
select null::text as aggregate_type, null::text as aggregate_id, null::bigint as last_sequence,
       null::bigint as current_snapshot, null::json as payload
where false;
