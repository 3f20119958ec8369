-- One row per access. Its opening and its completion come in any order: what has not come yet is null.
create table accesses (
    -- The request's id, made from the clock: the order of ids is the order of time.
    id uuid primary key,
    opened_at timestamptz,
    -- A keyed hash of who it was; the name stands in the sealed part.
    actor bytea,
    -- Separated by commas, as `actions` and `parameters` are.
    roles text,
    method text,
    route text,
    purpose text,
    -- The id in the path, where it is not a patient's; nor that of anything of a patient who is erased.
    target uuid,
    -- Whose key seals what follows: a lane of the access log.
    lane uuid,
    sealed bytea,
    completed_at timestamptz,
    outcome text,
    status integer,
    decision text,
    actions text,
    break_glass boolean,
    patients_total integer,
    target_type text,
    parameters text,
    -- True if it was to somebody who is erased.
    forgotten boolean
);

alter table accesses alter column sealed set storage external;

create index accesses_by_actor on accesses (actor, id);

-- Whose data it was. An erased patient's rows are dropped: who looked at whom is then no longer known.
create table access_patients (
    patient uuid not null,
    access uuid not null,
    primary key (patient, access)
);
create index access_patients_by_access on access_patients (access);
