-- Keys change without the log being written again: a subject has one row per data key, and the master key and the
-- generation key that wrap a row may be replaced by others.

-- Which master key wraps a row, as the provider calls it; null where nobody has said so yet.
alter table generations add column master text;
alter table secrets add column master text;
-- How many keys may have been wrapped under a generation, at most: whoever wraps reserves a block of numbers first.
alter table generations add column wraps_reserved bigint not null default 0;
update generations set wraps_reserved = (select count(*) from subject_keys where generation = generations.id);

-- The current key seals; the ones before it only open. An erased subject keeps its current row, so nobody can give it
-- another.
alter table subject_keys drop constraint subject_keys_pkey;
alter table subject_keys drop constraint subject_keys_key_id_key;
alter table subject_keys add primary key (key_id);
alter table subject_keys add column current boolean not null default true;
create unique index subject_keys_current on subject_keys (subject) where current;
create index subject_keys_retired on subject_keys (subject) where not current;

-- Whose keys were erased or replaced, for the processes that hold some in memory. A reader that asks again for what no
-- transaction of its last snapshot can have written misses nothing; a plain counter would, as numbers are not given out
-- in the order of commits.
create table key_changes (
    transaction xid8 not null default pg_current_xact_id(),
    subject uuid not null,
    changed_at timestamptz not null default now(),
    primary key (transaction, subject)
);

-- How often a data key has sealed, counted by sampling: see docs/adr/0009.
create table key_uses (
    key_id uuid primary key,
    seals bigint not null
);

create or replace function refuse_key_resurrection() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and new.subject = old.subject and new.key_id = old.key_id
        and (old.current or not new.current)
        and (old.state = 'active' or (new.state = 'erased' and new.current = old.current)) then
        return new;
    end if;
    raise exception 'an erased key can not come back, and no key row is deleted or moved' using errcode = 'restrict_violation';
end $$;

-- A key that is new is current: one that only opens is the trace of one that was.
create function refuse_retired_key() returns trigger language plpgsql as $$
begin
    if new.current then
        return new;
    end if;
    raise exception 'a new key is its subject''s current one' using errcode = 'restrict_violation';
end $$;

create trigger subject_keys_new_is_current before insert on subject_keys
    for each row execute function refuse_retired_key();

-- Erasing is of a subject, not of a key: all its keys go with the first. This statement sees what was committed while
-- the erasure waited for a row, so a rotation at the same moment leaves no key behind.
create function spread_key_change() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if new.state = 'erased' then
        update subject_keys set state = 'erased', wrapped = null where subject = new.subject and state = 'active';
    end if;
    insert into key_changes (subject) values (new.subject) on conflict do nothing;
    return null;
end $$;

create trigger subject_keys_changed after update of state, current on subject_keys
    for each row when (old.state <> new.state or old.current <> new.current) execute function spread_key_change();

-- The write door replaces a key that has sealed often, and counts; so does whoever seals rows.
grant update (current) on subject_keys to nexus_command;
grant update (wraps_reserved) on generations to nexus_command;
grant select on key_changes to nexus_command, nexus_projector, nexus_query;
grant select, insert, update on key_uses to nexus_command, nexus_projector;
grant select on key_uses to nexus_query;
