-- Appointments, and the calendars that they stand in.
create table appointments (
    appointment uuid primary key,
    patient uuid not null,
    sequence bigint not null,
    status text not null,
    starts_at timestamptz,
    ends_at timestamptz,
    sealed bytea not null
);

alter table appointments alter column sealed set storage external;

create index appointments_of_patient on appointments (patient);

-- One row for each practitioner who takes part.
create table calendars (
    practitioner uuid not null,
    starts_at timestamptz not null,
    ends_at timestamptz,
    appointment uuid not null,
    patient uuid not null,
    primary key (practitioner, starts_at, appointment)
);

-- What lasts longer than a day is rare, and is looked for apart: everything else that reaches into a day has begun on it
-- or within the 24 hours before.
create index calendars_longer_than_a_day on calendars (practitioner, ends_at) where ends_at - starts_at > interval '24 hours';
create index calendars_of_appointment on calendars (appointment);
create index calendars_of_patient on calendars (patient);

-- Names for the list, sealed.
create table people (
    patient uuid primary key,
    sequence bigint not null,
    sealed bytea not null
);
