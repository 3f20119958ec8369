-- Which version of an observation the values below come from.
create table observations (
    observation uuid primary key,
    patient uuid not null,
    sequence bigint not null,
    -- All the codes by which a consent may mean it, an array of strings: who may not see one may not see the others.
    codes jsonb not null
);

-- Measured values, those in components included: systolic pressure is found here, not in the observation's own code.
create table measurements (
    observation uuid not null,
    -- -1 for the observation's own value, else the place of the component.
    component smallint not null,
    -- A value can be coded in several systems: one row for each, 0 for the first.
    coding smallint not null,
    patient uuid not null,
    system text,
    code text,
    effective_at timestamptz not null,
    -- Keeps its digits: 120.0 stays 120.0.
    value numeric not null,
    -- UCUM.
    unit text,
    status text not null,
    -- 0 normal, 1 restricted, 2 very restricted.
    sensitivity smallint not null,
    primary key (observation, component, coding)
);

create index measurements_of_code on measurements (patient, code, effective_at desc, observation, component);
create index measurements_of_patient on measurements (patient, effective_at desc, observation, component);
create index observations_of_patient on observations (patient);

-- Who may have a series, values or not.
create table patients (
    patient uuid primary key,
    sequence bigint not null
);
