-- Who may see whom: what decides about access to a patient's record, in the form in which it is asked.

-- Who cares for a patient because of one encounter or appointment, and when that counts.
create table care (
    source uuid primary key,
    patient uuid not null,
    sequence bigint not null,
    -- Of the directory.
    practitioners uuid[] not null,
    organizations uuid[] not null,
    -- `-infinity` and `infinity` where there is no bound; both `-infinity` if it never counts.
    counts_from timestamptz not null,
    counts_until timestamptz not null
);

create index care_of_patient on care (patient, counts_until);

-- Consents. What they say is sealed: that somebody hides something tells a lot.
create table consents (
    consent uuid primary key,
    patient uuid not null,
    sequence bigint not null,
    active boolean not null,
    sealed bytea not null
);

alter table consents alter column sealed set storage external;

create index consents_of_patient on consents (patient) where active;

-- Glass that was broken: by whom, for how long, and whether an auditor has closed the case.
create table emergencies (
    emergency uuid primary key,
    patient uuid not null,
    sequence bigint not null,
    -- Of the directory.
    practitioner uuid,
    opened_at timestamptz not null,
    ends_at timestamptz not null,
    reviewed boolean not null,
    -- The reason, and the finding.
    sealed bytea not null
);

alter table emergencies alter column sealed set storage external;

create index emergencies_of_patient on emergencies (patient, ends_at);
create index emergencies_open on emergencies (opened_at, emergency) where not reviewed;
