-- How much was dropped of each erased subject, by version of each read model. Numbers for the receipt, no content.
create table projection.forgotten (
    read_model   text not null,
    version      integer not null,
    subject      uuid not null,
    partition    integer not null,
    -- The event that erased the subject; null while only its key is known to be gone.
    position     bigint,
    rows         bigint not null,
    parked       bigint not null,
    forgotten_at timestamptz not null default now(),
    constraint forgotten_pkey primary key (read_model, version, subject)
);
create index forgotten_subject on projection.forgotten (subject);
