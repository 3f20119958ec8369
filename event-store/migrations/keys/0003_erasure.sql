-- What is known of destroyed keys: who wanted it, which event erased the subject, and a mark by which a copy of the key
-- would be recognised. Nothing of the patient.

create table erasures (
    subject uuid primary key,
    -- The keys that were destroyed, and of each SHA-256 over a label, its id and the key. None where this store did not have
    -- them any more; of one that could not be unwrapped, no bytes.
    key_ids uuid[] not null,
    fingerprints bytea[] not null,
    -- The event `Patient.Erased`: everything of the subject up to its position is erased.
    event_id uuid not null,
    partition int not null,
    position bigint not null,
    -- Nothing where the key was gone before the event could be read.
    requested_by text,
    requested_at timestamptz,
    approved_by text,
    approved_at timestamptz,
    -- What the log kept beside the events, and was removed.
    snapshots bigint not null,
    claims bigint not null,
    erased_at timestamptz not null,
    -- HMAC over all of the above under the installation's secret.
    mac bytea not null
);

create function refuse_erasure_change() returns trigger language plpgsql as $$
begin
    raise exception 'what is known of an erasure is never changed or removed' using errcode = 'restrict_violation';
end $$;

create trigger erasures_append_only before update or delete or truncate on erasures
    for each statement execute function refuse_erasure_change();

-- Destroys a key for good. A subject that this store does not know (any more) is erased as well, so that a store restored
-- from an older backup can't give it another key.
create function destroy_key(
    of_subject uuid, named_key uuid, keys uuid[], key_fingerprints bytea[], of_event uuid, in_partition int,
    at_position bigint, asked_by text, asked_at timestamptz, allowed_by text, allowed_at timestamptz,
    snapshots_gone bigint, claims_gone bigint, at_time timestamptz, proof bytea
) returns void language plpgsql security definer set search_path = public, pg_temp as $$
begin
    insert into subject_keys (subject, key_id, generation, wrapped, state)
    select of_subject, named_key, (select max(id) from generations), null, 'erased'
    where not exists (select from subject_keys where subject = of_subject)
    on conflict do nothing;
    -- Waits for whoever is changing a key of the subject; the next statement then sees what came of it.
    perform from subject_keys where subject = of_subject for update;
    update subject_keys set wrapped = null, state = 'erased' where subject = of_subject and state = 'active';
    insert into erasures (subject, key_ids, fingerprints, event_id, partition, position, requested_by, requested_at,
                          approved_by, approved_at, snapshots, claims, erased_at, mac)
    values (of_subject, keys, key_fingerprints, of_event, in_partition, at_position, asked_by, asked_at, allowed_by,
            allowed_at, snapshots_gone, claims_gone, at_time, proof)
    on conflict (subject) do nothing;
end $$;

revoke all on function destroy_key from public;
grant execute on function destroy_key to nexus_command;
grant select on erasures to nexus_command, nexus_query;
