-- Encounters and where they are. Those that are over keep their row, so that an older event can't reopen them.
create table encounters (
    encounter uuid primary key,
    patient uuid not null,
    sequence bigint not null,
    status text not null,
    -- In progress or arrived: the patient is here.
    present boolean not null,
    class text,
    -- Where the patient is now; none if the encounter does not say.
    location uuid,
    -- Since when there, and in the house.
    located_at timestamptz,
    started_at timestamptz,
    sealed bytea not null
);

alter table encounters alter column sealed set storage external;

create index encounters_present on encounters (location, encounter) where present;
create index encounters_of_patient on encounters (patient);

-- Names for the list, sealed.
create table people (
    patient uuid primary key,
    sequence bigint not null,
    sealed bytea not null
);

-- Names of places, sealed with the place's own key.
create table places (
    location uuid primary key,
    sequence bigint not null,
    sealed bytea not null
);
