-- Who the patients are, findable without being readable: what identifies them is sealed, and `keys` holds keyed hashes
-- (64 bits of HMAC-SHA256) of identifiers, birth date and names in all the spellings that a search should forgive.
create table patients (
    patient uuid primary key,
    sequence bigint not null,
    recorded_at timestamptz not null,
    -- Entered in error: still there by id, never found.
    withdrawn boolean not null,
    keys bigint[] not null,
    sealed bytea not null
);

alter table patients alter column sealed set storage external;

create index patients_keys on patients using gin (keys) where not withdrawn;
