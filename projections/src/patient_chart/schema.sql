-- What a patient's chart is made of: one row per resource, in the section where a clinician looks for it.
create table entries (
    id uuid not null,
    resource_type text not null,
    patient uuid not null,
    section text not null,
    sequence bigint not null,
    status text,
    -- 0 current, 1 past, 2 entered in error (kept so that an older event can't bring it back, never listed).
    standing smallint not null,
    system text,
    code text,
    -- Where it stands: the first moment of the clinical time, else when it was recorded.
    started_at timestamptz not null,
    -- The clinical time as it was stated; null if there is none.
    occurred jsonb,
    ended_at timestamptz,
    -- 0 normal, 1 restricted, 2 very restricted.
    sensitivity smallint not null,
    -- All the codes by which a consent may mean it, an array of strings.
    codes jsonb not null,
    -- Display, text, and what else the section shows.
    sealed bytea not null,
    primary key (id, resource_type)
);

alter table entries alter column sealed set storage external;

-- A section in the order in which it is read: current first, then the newest.
create index entries_of_section on entries (patient, section, standing, started_at desc, id) where standing < 2;

-- Who has a chart, entries or not.
create table patients (
    patient uuid primary key,
    sequence bigint not null
);
