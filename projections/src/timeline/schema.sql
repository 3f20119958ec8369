-- Everything of a patient in clinical order: one row per resource, as it stands.
create table entries (
    id uuid not null,
    resource_type text not null,
    patient uuid not null,
    sequence bigint not null,
    -- Where it stands: the first moment of the clinical time, else when it was recorded.
    occurred_at timestamptz not null,
    -- The clinical time as it was stated; null if there is none.
    occurred jsonb,
    -- The resource type of what an observation is about, if that is not the patient.
    about text,
    recorded_at timestamptz not null,
    -- The last event's name, such as `Recorded`.
    event text not null,
    status text,
    system text,
    code text,
    -- Rules that the recorded history breaks.
    notes integer not null,
    -- 0 normal, 1 restricted, 2 very restricted.
    sensitivity smallint not null,
    -- All the codes by which a consent may mean it, an array of strings.
    codes jsonb not null,
    sealed bytea not null,
    primary key (id, resource_type)
);

alter table entries alter column sealed set storage external;

-- Read in both directions.
create index entries_in_order on entries (patient, occurred_at, resource_type, id);

-- Everything that happened to a patient in the order of the log: one row per event, for those who follow.
create table changes (
    partition integer not null,
    position bigint not null,
    patient uuid not null,
    id uuid not null,
    resource_type text not null,
    sequence bigint not null,
    -- As in entries.
    occurred_at timestamptz not null,
    occurred jsonb,
    about text,
    recorded_at timestamptz not null,
    event text not null,
    status text,
    system text,
    code text,
    -- As in entries.
    sensitivity smallint not null,
    codes jsonb not null,
    sealed bytea not null,
    primary key (partition, position)
);

alter table changes alter column sealed set storage external;

create index changes_of_patient on changes (patient, position);
