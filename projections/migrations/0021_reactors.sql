-- Who carries out what reactors order.
do $$
begin
    if not exists (select from pg_roles where rolname = 'nexus_reactor') then
        begin
            create role nexus_reactor login;
        exception when duplicate_object or unique_violation then
            null;
        end;
    end if;
end
$$;

-- How far the version that was served had got when it was switched from. What a reactor's new version orders because of
-- an event up to there, and what was due by then, the old one has ordered already.
create table projection.switches (
    read_model   text not null,
    from_version integer not null,
    to_version   integer not null,
    partition    integer not null,
    position     bigint not null,
    switched_at  timestamptz not null default clock_timestamp()
);
create index switches_to on projection.switches (read_model, to_version, partition);

create function projection.note_switch() returns trigger
language plpgsql security definer set search_path = projection, pg_temp as $$
begin
    insert into switches (read_model, from_version, to_version, partition, position)
    select c.read_model, c.version, new.active_version, c.partition, c.position
    from checkpoints c where c.read_model = old.read_model and c.version = old.active_version;
    return null;
end
$$;

create trigger note_switch after update of active_version on projection.versions
for each row when (old.active_version is distinct from new.active_version)
execute function projection.note_switch();
