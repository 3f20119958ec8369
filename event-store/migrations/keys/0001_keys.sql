-- The key database. Its backups live and die apart from the log's: the log without it is unreadable, which is what
-- makes destroying one key the same as destroying everything it sealed.

do $$
declare role_name text;
begin
    foreach role_name in array array['nexus_command', 'nexus_projector', 'nexus_query'] loop
        if not exists (select from pg_roles where rolname = role_name) then
            begin
                execute format('create role %I login', role_name);
            exception when duplicate_object or unique_violation then
                -- Roles belong to the whole server; another database's migration was first.
                null;
            end;
        end if;
    end loop;
end $$;

-- Generation keys, wrapped by the master key. A new generation is a new row; old ones go on opening old keys.
create table generations (
    id int primary key,
    wrapped bytea not null,
    created_at timestamptz not null default now()
);

-- Secrets of the whole installation, such as the one behind claims and blind indexes, wrapped by the master key.
create table secrets (
    name text primary key,
    wrapped bytea not null
);

-- One row per subject, for ever: the row of an erased subject is what keeps it from getting another key.
create table subject_keys (
    subject uuid primary key,
    key_id uuid not null unique,
    generation int not null references generations (id),
    wrapped bytea,
    state text not null default 'active',
    created_at timestamptz not null default now(),
    constraint subject_keys_state check (state in ('active', 'erased')),
    -- Erased means that nothing is left to unwrap.
    constraint subject_keys_wrapped check ((state = 'active') = (wrapped is not null))
);

-- Erasure has no way back, and no row leaves: not for the services' roles and not for the owner.
create function refuse_key_resurrection() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and (old.state = 'active' or new.state = 'erased')
        and new.subject = old.subject and new.key_id = old.key_id then
        return new;
    end if;
    raise exception 'an erased key can not come back, and no key row is deleted or moved' using errcode = 'restrict_violation';
end $$;

create trigger subject_keys_no_resurrection before update or delete on subject_keys
    for each row execute function refuse_key_resurrection();
create trigger subject_keys_no_truncate before truncate on subject_keys
    for each statement execute function refuse_key_resurrection();

grant select, insert on generations, secrets, subject_keys to nexus_command;
grant select on generations, secrets, subject_keys to nexus_projector, nexus_query;
