-- Forgetting a patient: the event `Patient.Erased` is the fence, and what the log keeps beside the events goes.

-- "Was this subject erased?", asked by every append, and "who was?", asked by whoever destroys keys. As small as the number
-- of erasures.
create unique index events_erased on events (subject) where event_type = 'Patient.Erased';

-- What was removed of an erased subject, for its receipt. A row says that nothing is left to be removed.
create table forgotten (
    subject uuid primary key,
    snapshots bigint not null,
    claims bigint not null,
    forgotten_at timestamptz not null default now()
);

-- "What does this stream hold?"
create index claims_holder on claims (holder_id);

-- The append of 0004, with one check more: status `erased`, and of_id the subject.
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

    -- Nothing follows an erasure. Whoever appends holds the head of the subject's partition, so the event that erased it
    -- is either seen here or comes later, whichever process asks and whatever keys it still has in memory.
    for found_one in
        select distinct e.command, e.subject
        from unnest(e_command, e_subject) as e (command, subject)
        join events gone on gone.subject = e.subject and gone.event_type = 'Patient.Erased'
    loop
        if passes[found_one.command] then
            passes[found_one.command] := false;
            return next (found_one.command, 'erased', null, null, found_one.subject::text,
                         null, null, null, null, null)::append_outcome;
        end if;
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

-- create or replace keeps grants, but not these.
alter function append_batch set plan_cache_mode = force_custom_plan;
alter function append_batch set jit = off;

-- Removes the snapshots and claims of an erased subject. Safe to repeat; answers what was removed in all.
-- Order of locks as in append_batch: head, claims. Snapshots are written without either, so their table is locked: a
-- snapshot is not kept once its subject is erased, and this waits for those that came just before.
create function forget_subject(of_subject uuid) returns forgotten language plpgsql security definer
set search_path = public, pg_temp as $$
declare
    home int;
    snapshots_gone bigint;
    claims_gone bigint;
    totals forgotten;
begin
    select partition into home from events where subject = of_subject and event_type = 'Patient.Erased';
    if home is null then
        raise exception 'the subject was not erased' using errcode = 'object_not_in_prerequisite_state';
    end if;
    perform from heads where partition = home for update;
    lock table snapshots in share row exclusive mode;
    perform from claims where holder_id in (
        select distinct aggregate_id::uuid from events where subject = of_subject
    ) order by claim for update;
    with streams as (
        select distinct aggregate_type, aggregate_id from events where subject = of_subject
    ), gone as (
        delete from claims c using streams s
        where c.holder_id = s.aggregate_id::uuid and c.holder_type = s.aggregate_type returning 1
    ) select count(*) into claims_gone from gone;
    with streams as (
        select distinct aggregate_type, aggregate_id from events where subject = of_subject
    ), gone as (
        delete from snapshots k using streams s
        where k.aggregate_id = s.aggregate_id and k.aggregate_type = s.aggregate_type returning 1
    ) select count(*) into snapshots_gone from gone;
    insert into forgotten as f (subject, snapshots, claims) values (of_subject, snapshots_gone, claims_gone)
    on conflict (subject) do update
    set snapshots = f.snapshots + excluded.snapshots, claims = f.claims + excluded.claims
    returning * into totals;
    return totals;
end $$;

revoke all on function forget_subject from public;
grant execute on function forget_subject to nexus_command;
grant select on forgotten to nexus_command;
