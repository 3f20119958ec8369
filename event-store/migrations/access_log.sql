-- What is different about the access log, after the migrations of the log have run in its schema. Run every time: each
-- statement may be repeated.

-- The functions were made for the schema `public`.
do $$
declare found_one record;
begin
    for found_one in
        select p.oid::regprocedure as signature from pg_proc p
        where p.pronamespace = 'access'::regnamespace
            and exists (select from unnest(p.proconfig) as setting where setting like 'search_path=%')
    loop
        execute format('alter function %s set search_path = access, pg_temp', found_one.signature);
    end loop;
end $$;

-- Both doors append, and see what appending takes: where the log stands. What is in it they can't read.
revoke all on all tables in schema access from nexus_command, nexus_query;
-- No patient has a stream here, and so nothing to forget.
revoke all on function forget_subject from nexus_command;
grant usage on schema access to nexus_command, nexus_query, nexus_relay, nexus_projector;
grant select on settings, heads, restored, relay_progress to nexus_command, nexus_query;
grant execute on function append_batch, settle_claims to nexus_command, nexus_query;

-- An append of this log is one event of a new stream, always, and there are hundreds a second: it has no use for what the
-- general function does for many commands with claims and keys, and would pay most of its time for that.
create or replace function append_batch(
    lock_partitions int[],
    c_key bytea[], c_fingerprint bytea[], c_response jsonb[], c_recorded_at timestamptz[], c_traceparent text[],
    s_command int[], s_type text[], s_id text[], s_sequence bigint[],
    u_command int[], u_type text[], u_subject uuid[], u_position bigint[],
    t_command int[], t_index int[], t_claim bytea[], t_kind text[], t_holder_type text[], t_holder_id uuid[],
    t_partition int[], t_moved boolean[],
    r_command int[], r_claim bytea[], r_holder_type text[], r_holder_id uuid[],
    e_command int[], e_partition int[], e_type text[], e_id text[], e_sequence bigint[], e_subject uuid[],
    e_event_type text[], e_event_version text[], e_key_id uuid[], e_sealed bytea[]
) returns setof append_outcome language plpgsql security definer set search_path = access, pg_temp as $$
declare
    next_position bigint;
begin
    if cardinality(c_recorded_at) <> 1 or cardinality(e_id) <> 1 or s_id <> e_id or s_type <> e_type
        or s_sequence <> '{0}' or e_sequence <> '{1}' or c_key[1] is not null
        or cardinality(u_type) + cardinality(t_claim) + cardinality(r_claim) > 0
    then
        raise exception 'the access log takes one event of a new stream' using errcode = 'feature_not_supported';
    end if;
    -- A statement of its own: the ones that follow then see everything that was committed while this one waited.
    select position + 1 into strict next_position from heads where partition = e_partition[1] for update;
    if exists (select from restored) then
        raise exception 'the claims of restored events are not settled'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if exists (select from events where aggregate_id = e_id[1] and aggregate_type = e_type[1]) then
        return next (1, 'conflict', null, e_type[1], e_id[1], null, null, null, null, null)::append_outcome;
        return;
    end if;
    insert into events (partition, position, aggregate_type, aggregate_id, sequence, subject, event_type,
                        event_version, key_id, recorded_at, traceparent, sealed)
    values (e_partition[1], next_position, e_type[1], e_id[1], 1, e_subject[1], e_event_type[1],
            e_event_version[1], e_key_id[1], c_recorded_at[1], c_traceparent[1], e_sealed[1]);
    update heads set position = next_position where partition = e_partition[1];
    return next (1, 'appended', null, null, null, e_partition, array[next_position], c_recorded_at[1],
                 null, null)::append_outcome;
end $$;

-- Its plans are made while the tables are small, so they are told not to rely on that.
alter function append_batch set plan_cache_mode = force_generic_plan;
alter function append_batch set enable_seqscan = off;
