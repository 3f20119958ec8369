-- Alerts as they stand. Those that are over keep their row, so that an older event can't reopen them.
create table alerts (
    alert uuid primary key,
    patient uuid not null,
    encounter uuid not null,
    sequence bigint not null,
    -- low-medium, medium or high; none once it is over.
    risk text,
    -- The least that it can be, if anything is undecided.
    score smallint,
    -- The parts of the score that it leaves out.
    undecided text[] not null,
    -- When it was raised, and when it last changed.
    raised_at timestamptz,
    changed_at timestamptz not null
);

create index alerts_standing on alerts (encounter) where risk is not null;
create index alerts_of_patient on alerts (patient);

-- Where the stays are.
create table stays (
    encounter uuid primary key,
    patient uuid not null,
    sequence bigint not null,
    location uuid
);

create index stays_of_location on stays (location);
create index stays_of_patient on stays (patient);

-- Names for the list, sealed.
create table people (
    patient uuid primary key,
    sequence bigint not null,
    sealed bytea not null
);
