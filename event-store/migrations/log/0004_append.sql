-- The append: one call, one round trip, one commit for a batch of commands, each with its own outcome.

-- status: appended | conflict | unlocked | taken | duplicate.
-- element: of taken, the caller's number for the claim; of unlocked, the partition that has to be locked too.
create type append_outcome as (
    command int,
    status text,
    element int,
    of_type text,
    of_id text,
    partitions int[],
    positions bigint[],
    recorded_at timestamptz,
    same_request boolean,
    response jsonb
);

-- Arrays that share a letter run in parallel: c_ has one entry per command; s_ are expected streams, u_ expected
-- tails of subjects, t_ claims to take, r_ claims to release, e_ events, each naming its command by number from 1.
-- No two commands of one call touch the same stream, tail, claim or key: the caller sees to that, so every check
-- can be made against the table alone.
--
-- Two calls can't deadlock: both take what they share in the order heads < claims taken < keys < claims released,
-- and each of these in its own order. Whoever waits in a later phase, or for a later key of the same phase, holds
-- nothing that is asked for after it. (A delete does not wait for a row that is not committed yet.)
--
-- What a concurrent call of another process commits between check and insert breaks a unique index and with it this
-- whole call. The caller then calls again, and the check sees it: nothing is ever half done.
create function append_batch(
    lock_partitions int[],
    c_key bytea[], c_fingerprint bytea[], c_response jsonb[], c_recorded_at timestamptz[], c_traceparent text[],
    s_command int[], s_type text[], s_id text[], s_sequence bigint[],
    u_command int[], u_type text[], u_subject uuid[], u_position bigint[],
    t_command int[], t_index int[], t_claim bytea[], t_kind text[], t_holder_type text[], t_holder_id uuid[],
    t_partition int[], t_moved boolean[],
    r_command int[], r_claim bytea[], r_holder_type text[], r_holder_id uuid[],
    e_command int[], e_partition int[], e_type text[], e_id text[], e_sequence bigint[], e_subject uuid[],
    e_event_type text[], e_event_version text[], e_key_id uuid[], e_sealed bytea[]
) returns setof append_outcome language plpgsql security definer set search_path = public, pg_temp as $$
declare
    passes boolean[] := array_fill(true, array[cardinality(c_recorded_at)]);
    found_one record;
    inserted bytea[];
begin
    -- A statement of its own: the ones that follow then see everything that was committed while this one waited.
    perform from heads where partition = any (lock_partitions) order by partition for update;

    -- Only for the caller that did not notice: whoever connects settles them first.
    if exists (select from restored) then
        raise exception 'the claims of restored events are not settled'
            using errcode = 'object_not_in_prerequisite_state';
    end if;

    -- Requests seen before come first: a retry is told what happened then, whatever has happened since.
    for found_one in
        select c.command, i.fingerprint = c.fingerprint as same_request, i.*
        from unnest(c_key, c_fingerprint) with ordinality as c (key, fingerprint, command)
        join idempotency i on i.key = c.key
    loop
        passes[found_one.command] := false;
        return next (found_one.command, 'duplicate', null, null, null, found_one.partitions, found_one.positions,
                     found_one.recorded_at, found_one.same_request, found_one.response)::append_outcome;
    end loop;

    -- A stream that stands as expected in a partition nobody locked might move before we commit: unlocked.
    for found_one in
        select s.command, s.type, s.id, coalesce(last.sequence, 0) <> s.sequence as moved, last.partition
        from unnest(s_command, s_type, s_id, s_sequence) with ordinality as s (command, type, id, sequence, number)
        left join lateral (
            select e.sequence, e.partition from events e
            where e.aggregate_id = s.id and e.aggregate_type = s.type
            order by e.sequence desc limit 1
        ) as last on true
        where coalesce(last.sequence, 0) <> s.sequence or last.partition <> all (lock_partitions)
        order by s.number
    loop
        if passes[found_one.command] then
            passes[found_one.command] := false;
            return next (found_one.command, case when found_one.moved then 'conflict' else 'unlocked' end,
                         found_one.partition, found_one.type, found_one.id,
                         null, null, null, null, null)::append_outcome;
        end if;
    end loop;

    for found_one in
        select u.command, u.type, u.subject
        from unnest(u_command, u_type, u_subject, u_position) with ordinality
            as u (command, type, subject, position, number)
        where exists (
            select from events e
            where e.subject = u.subject and e.aggregate_type = u.type and e.position > u.position
        )
        order by u.number
    loop
        if passes[found_one.command] then
            passes[found_one.command] := false;
            return next (found_one.command, 'conflict', null, found_one.type, found_one.subject::text,
                         null, null, null, null, null)::append_outcome;
        end if;
    end loop;

    if cardinality(t_claim) > 0 then
        with taken as (
            insert into claims (claim, kind, holder_type, holder_id, partition, taken_at)
            select t.claim, t.kind, t.holder_type, t.holder_id, t.partition, c_recorded_at[t.command]
            from unnest(t_command, t_claim, t_kind, t_holder_type, t_holder_id, t_partition, t_moved)
                as t (command, claim, kind, holder_type, holder_id, partition, moved)
            where passes[t.command] and not t.moved
            order by t.claim
            on conflict do nothing
            returning claim
        )
        select coalesce(array_agg(taken.claim), '{}') into inserted from taken;

        for found_one in
            select t.command, t.index, held.claim, held.holder_type, held.holder_id
            from unnest(t_command, t_index, t_claim, t_holder_type, t_holder_id, t_moved) with ordinality
                as t (command, index, claim, holder_type, holder_id, moved, number)
            left join claims held on held.claim = t.claim
            where passes[t.command]
                and (held.holder_type, held.holder_id) is distinct from (t.holder_type, t.holder_id)
                -- What the same command releases may be free, or held by whoever it releases it for.
                and not (t.moved and (held.claim is null or exists (
                    select from unnest(r_command, r_claim, r_holder_type, r_holder_id)
                        as r (command, claim, holder_type, holder_id)
                    where r.command = t.command and r.claim = t.claim
                        and (r.holder_type, r.holder_id) = (held.holder_type, held.holder_id)
                )))
            order by t.number
        loop
            if found_one.claim is null then
                raise exception 'a claim was released while it was asked for' using errcode = 'serialization_failure';
            end if;
            if passes[found_one.command] then
                passes[found_one.command] := false;
                return next (found_one.command, 'taken', found_one.index, found_one.holder_type,
                             found_one.holder_id::text, null, null, null, null, null)::append_outcome;
            end if;
        end loop;

        -- A command refused for one claim gives back the others it had just taken.
        delete from claims where claim in (
            select t.claim from unnest(t_command, t_claim) as t (command, claim)
            where not passes[t.command] and t.claim = any (inserted)
        );
    end if;

    return query
    with placed as materialized (
        select e.*, h.position + row_number() over (partition by e.partition order by e.number) as position
        from unnest(e_command, e_partition, e_type, e_id, e_sequence, e_subject, e_event_type, e_event_version,
                    e_key_id, e_sealed) with ordinality
            as e (command, partition, type, id, sequence, subject, event_type, event_version, key_id, sealed, number)
        join heads h on h.partition = e.partition
        where passes[e.command]
    ), stored as (
        insert into events (partition, position, aggregate_type, aggregate_id, sequence, subject, event_type,
                            event_version, key_id, recorded_at, traceparent, sealed)
        select p.partition, p.position, p.type, p.id, p.sequence, p.subject, p.event_type, p.event_version, p.key_id,
               c_recorded_at[p.command], c_traceparent[p.command], p.sealed
        from placed p order by p.partition, p.position
    ), moved as (
        update heads h set position = last.position
        from (select p.partition, max(p.position) as position from placed p group by p.partition) as last
        where h.partition = last.partition
    ), reached as (
        select r.command, array_agg(r.partition order by r.partition) as partitions,
               array_agg(r.position order by r.partition) as positions
        from (select p.command, p.partition, max(p.position) as position
              from placed p group by p.command, p.partition) as r
        group by r.command
    ), answered as (
        select c.command, c.key, c.fingerprint, c.response, c.recorded_at,
               coalesce(r.partitions, '{}') as partitions, coalesce(r.positions, '{}') as positions
        from unnest(c_key, c_fingerprint, c_response, c_recorded_at) with ordinality
            as c (key, fingerprint, response, recorded_at, command)
        left join reached r on r.command = c.command
        where passes[c.command]
    ), remembered as (
        insert into idempotency (key, fingerprint, response, partitions, positions, recorded_at)
        select a.key, a.fingerprint, a.response, a.partitions, a.positions, a.recorded_at
        from answered a where a.key is not null order by a.key
    )
    select a.command::int, 'appended', null::int, null::text, null::text, a.partitions, a.positions, a.recorded_at,
           null::boolean, null::jsonb
    from answered a;

    if cardinality(r_claim) > 0 then
        perform from claims where claim in (
            select r.claim from unnest(r_command, r_claim) as r (command, claim) where passes[r.command]
        ) order by claim for update;
        delete from claims c
        using unnest(r_command, r_claim, r_holder_type, r_holder_id) as r (command, claim, holder_type, holder_id)
        where passes[r.command] and c.claim = r.claim and c.holder_type = r.holder_type and c.holder_id = r.holder_id;
        -- What a command releases and takes in one breath changes hands here, unless the taker has it already.
        insert into claims (claim, kind, holder_type, holder_id, partition, taken_at)
        select t.claim, t.kind, t.holder_type, t.holder_id, t.partition, c_recorded_at[t.command]
        from unnest(t_command, t_claim, t_kind, t_holder_type, t_holder_id, t_partition, t_moved)
            as t (command, claim, kind, holder_type, holder_id, partition, moved)
        where passes[t.command] and t.moved and not exists (
            select from claims held
            where held.claim = t.claim and held.holder_type = t.holder_type and held.holder_id = t.holder_id
        )
        order by t.claim;
    end if;
end $$;

-- A generic plan made while the tables were empty makes every later append three to four times slower; compiling
-- a plan that runs once is never worth it.
alter function append_batch set plan_cache_mode = force_custom_plan;
alter function append_batch set jit = off;

-- Brings back what Kafka has and the log lost: the events that follow the head, in order, and nothing else.
create function restore_tail(
    to_partition int,
    e_position bigint[], e_type text[], e_id text[], e_sequence bigint[], e_subject uuid[], e_event_type text[],
    e_event_version text[], e_key_id uuid[], e_recorded_at timestamptz[], e_traceparent text[], e_sealed bytea[]
) returns bigint language plpgsql security definer set search_path = public, pg_temp as $$
declare
    head bigint;
begin
    select position into strict head from heads where partition = to_partition for update;
    if exists (
        select from unnest(e_position) with ordinality as e (position, number) where e.position <> head + e.number
    ) then
        raise exception 'a restored tail has to follow position % of partition % without a gap', head, to_partition
            using errcode = 'check_violation';
    end if;
    insert into events (partition, position, aggregate_type, aggregate_id, sequence, subject, event_type,
                        event_version, key_id, recorded_at, traceparent, sealed)
    select to_partition, e.*
    from unnest(e_position, e_type, e_id, e_sequence, e_subject, e_event_type, e_event_version, e_key_id,
                e_recorded_at, e_traceparent, e_sealed) as e;
    update heads set position = head + cardinality(e_position) where partition = to_partition;
    insert into restored (partition, from_position, to_position)
    values (to_partition, head + 1, head + cardinality(e_position))
    on conflict (partition) do update set to_position = excluded.to_position;
    raise warning 'restored % events of partition % from Kafka, after position %',
        cardinality(e_position), to_partition, head;
    return head + cardinality(e_position);
end $$;

-- Gives each claim of restored streams to its holder, and takes back what they have given up. The first to come does it
-- for these positions; whoever comes later may have looked at streams that have moved on.
create function settle_claims(
    of_partition int, from_here bigint, up_to bigint,
    t_claim bytea[], t_kind text[], t_holder_type text[], t_holder_id uuid[],
    r_claim bytea[], r_holder_type text[], r_holder_id uuid[]
) returns boolean language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update restored set from_position = up_to + 1 where partition = of_partition and from_position = from_here;
    if not found then
        return false;
    end if;
    delete from restored where partition = of_partition and from_position > to_position;
    delete from claims c
    using unnest(r_claim, r_holder_type, r_holder_id) as r (claim, holder_type, holder_id)
    where c.claim = r.claim and c.holder_type = r.holder_type and c.holder_id = r.holder_id;
    -- Somebody else who still has it has given it up in events that are not looked at yet.
    insert into claims (claim, kind, holder_type, holder_id, partition, taken_at)
    select t.claim, t.kind, t.holder_type, t.holder_id, of_partition, now()
    from unnest(t_claim, t_kind, t_holder_type, t_holder_id) as t (claim, kind, holder_type, holder_id)
    order by t.claim
    on conflict (claim) do update set holder_type = excluded.holder_type, holder_id = excluded.holder_id,
                                      partition = excluded.partition, taken_at = excluded.taken_at;
    return true;
end $$;

-- Forgets old answers, a few at a time. Returns how many, so that the caller goes on until there are none.
create function sweep_idempotency(older_than interval, at_most int) returns int
language sql security definer set search_path = public, pg_temp as $$
    with old as (
        select key from idempotency where recorded_at < now() - older_than
        order by recorded_at limit at_most for update skip locked
    ), gone as (delete from idempotency i using old where i.key = old.key returning 1)
    select count(*)::int from gone
$$;
