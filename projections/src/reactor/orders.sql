-- What is to be done, as the reactor's fold finds it: a command of the write door, sent once it is due.
create table orders (
    -- Sent as the Idempotency-Key. Made from the reactor's name, the cause and the target, and from nothing else: whoever
    -- sends it again, in whatever version, sends the same.
    key text primary key,
    subject uuid not null,
    -- What is ordered of one target is sent in the order of its causes.
    target uuid not null,
    partition integer not null,
    -- The event that caused it.
    position bigint not null,
    due_at timestamptz not null,
    path text not null,
    body jsonb not null,
    -- due, done, refused for good, or superseded: the version before this one has ordered it.
    state text not null default 'due',
    attempts integer not null default 0,
    -- When it is tried next.
    try_at timestamptz not null,
    -- The last part of the type of the problem that it met last.
    problem text,
    constraint orders_state_is_known check (state in ('due', 'done', 'refused', 'superseded'))
);
create index orders_to_try on orders (try_at) where state = 'due';
create index orders_to_follow on orders (target, position) where state = 'due';
create index orders_of_subject on orders (subject);

