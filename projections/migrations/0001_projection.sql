-- The engine's own tables. Each read model has a schema beside this one.

create schema if not exists projection;

-- Which version of each read model is served.
create table projection.versions (
    read_model     text primary key,
    active_version integer not null
);

-- How far each partition is applied. Changed in the transaction that changes the read model's rows.
create table projection.checkpoints (
    read_model     text not null,
    version        integer not null,
    partition      integer not null,
    -- The last position applied. Positions start at 1 and have no gaps.
    position       bigint not null default 0,
    -- The record to read next, and the position of the one before it: by that the topic is recognised.
    kafka_offset   bigint,
    kafka_position bigint,
    -- Raised by every new owner; updates under an older one change nothing.
    epoch          bigint not null,
    owner          text not null,
    -- How many events of this partition are parked, so that a batch need not look when there are none.
    parked         bigint not null default 0,
    updated_at     timestamptz not null default now(),
    constraint checkpoints_pkey primary key (read_model, version, partition),
    constraint checkpoints_position_counts_up check (position >= 0),
    constraint checkpoints_parked_counts_up check (parked >= 0)
) with (fillfactor = 50);

-- Events that could not be read or applied, and the later events of the same subject behind them. Still sealed.
create table projection.parked (
    read_model     text not null,
    version        integer not null,
    partition      integer not null,
    position       bigint not null,
    subject        uuid not null,
    aggregate_type text not null,
    aggregate_id   uuid not null,
    sequence       bigint not null,
    event_type     text not null,
    event_version  text not null,
    key_id         uuid not null,
    recorded_at    timestamptz not null,
    traceparent    text,
    sealed         bytea not null,
    -- Why it is here: a code, never a value of the event. 'behind' for those that only wait for an earlier one.
    reason         text not null,
    attempts       integer not null,
    parked_at      timestamptz not null default now(),
    constraint parked_pkey primary key (read_model, version, partition, position)
);
create index parked_subject on projection.parked (read_model, version, subject, position);

-- The newest position known to exist in each partition, as consumers saw it in Kafka.
create table projection.heads (
    partition integer primary key,
    position  bigint not null,
    seen_at   timestamptz not null default now()
);

-- Which DDL made each read model's schema: changing it needs a new version.
create table projection.schemas (
    read_model text not null,
    version    integer not null,
    ddl        text not null,
    constraint schemas_pkey primary key (read_model, version)
);
