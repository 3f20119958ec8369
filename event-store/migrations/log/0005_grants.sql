-- Least privilege: nobody but the append function writes the log, and the relay sees ciphertext only.
revoke all on function append_batch, restore_tail, settle_claims, sweep_idempotency, settle_partitions from public;

grant select on settings, heads, events, event_streams, event_snapshots, idempotency, claims, restored,
    relay_progress to nexus_command;
grant select, insert, update on snapshots to nexus_command;
grant execute on function append_batch, settle_claims to nexus_command;

grant select on settings, heads, events to nexus_relay;
grant select, insert, update, delete on relays to nexus_relay;
grant select, update on relay_leases, relay_progress to nexus_relay;
grant execute on function restore_tail, sweep_idempotency to nexus_relay;

grant select on settings, heads, events to nexus_projector;
