-- The newest version of every resource, as it was sent. Names hide in `display` and narrative, so the whole is sealed.
create table resources (
    resource_type text not null,
    id uuid not null,
    subject uuid not null,
    sequence bigint not null,
    recorded_at timestamptz not null,
    -- Taken back, in a resource type that has no status to say so itself.
    retracted boolean not null,
    sealed bytea not null,
    primary key (id, resource_type)
);

-- Sealed bytes don't compress; trying costs time.
alter table resources alter column sealed set storage external;

create index resources_subject on resources (subject);
