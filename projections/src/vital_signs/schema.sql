-- Which version of an observation the values below come from.
create table observations (
    observation uuid primary key,
    patient uuid not null,
    sequence bigint not null,
    -- All the codes by which a consent may mean it, an array of strings: who may not see one may not see the others.
    codes jsonb not null
);

-- What was measured, in components too: systolic pressure is found here, not in the observation's own code.
create table measurements (
    observation uuid not null,
    -- -1 for the observation's own value, else the place of the component.
    component smallint not null,
    -- A value can be coded in several systems: one row for each, 0 for the first.
    coding smallint not null,
    patient uuid not null,
    system text,
    code text,
    -- The first and the last moment at which it can have been measured. -infinity and infinity: it is not said when, and a
    -- period without an end may go on.
    effective_at timestamptz not null,
    effective_until timestamptz not null,
    -- When it was measured, as it was stated; null if that was not.
    effective jsonb,
    -- The element that has the result, such as valueQuantity.
    kind text not null,
    -- The number in the letters that came: 120.0 stays 120.0, and 0.000001 is no 1e-6.
    value text,
    -- A part of the value: > 600 is not 600.
    comparator text,
    -- The code of the unit, if it is coded in UCUM.
    unit text,
    status text not null,
    -- 0 normal, 1 restricted, 2 very restricted.
    sensitivity smallint not null,
    -- Units in words, and results that are no number; null for what the columns say all of. Free text may name somebody.
    sealed bytea,
    primary key (observation, component, coding)
);

alter table measurements alter column sealed set storage external;

create index measurements_of_code on measurements (patient, code, effective_at desc, observation, component);
create index measurements_of_patient on measurements (patient, effective_at desc, observation, component);
create index observations_of_patient on observations (patient);

-- Who may have a series, values or not.
create table patients (
    patient uuid primary key,
    sequence bigint not null
);
