//! Events into rows: the summary of the last event, and the hashes that it is found by.

use nexus_domain::AnyEvent;
use nexus_domain::patient::PatientEvent;
use nexus_event_store::Keyring;
use sqlx::PgConnection;

use super::{blind, context, summary};
use crate::read_model::{ApplyError, Event};
use crate::rows;

/// Arrays of arrays of different lengths can't be bound, so the hashes come in one row each and are gathered here.
const UPSERT: &str = "
    insert into patients as t (patient, sequence, recorded_at, withdrawn, keys, sealed)
    select new.patient, new.sequence, new.recorded_at, new.withdrawn, coalesce(found.keys, '{}'), new.sealed
    from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::boolean[], $5::bytea[])
        with ordinality as new (patient, sequence, recorded_at, withdrawn, sealed, row)
    left join (
        select row, array_agg(key order by key) as keys from unnest($6::bigint[], $7::bigint[]) as by (row, key) group by row
    ) as found using (row)
    on conflict (patient) do update
    set sequence = excluded.sequence, recorded_at = excluded.recorded_at, withdrawn = excluded.withdrawn,
        keys = excluded.keys, sealed = excluded.sealed
    where excluded.sequence > t.sequence";

pub(super) async fn apply(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    let events = rows::latest(events, |event| matches!(event.fact, AnyEvent::Patient(_)));
    let patients: Vec<_> = events.iter().map(|event| event.aggregate_id).collect();
    let sequences: Vec<_> = events.iter().map(|event| event.sequence).collect();
    let recorded: Vec<_> = events.iter().map(|event| event.recorded_at).collect();
    let withdrawn: Vec<_> = events.iter().map(|event| withdrawn(event)).collect();
    let sealed: Vec<_> = events.iter().map(|event| seal(event, keyring)).collect();
    let (key_rows, keys) = keys(&events, keyring);
    sqlx::query(UPSERT)
        .bind(patients)
        .bind(sequences)
        .bind(recorded)
        .bind(withdrawn)
        .bind(sealed)
        .bind(key_rows)
        .bind(keys)
        .execute(tx)
        .await?;
    Ok(())
}

fn withdrawn(event: &Event) -> bool {
    matches!(event.fact, AnyEvent::Patient(PatientEvent::EnteredInError { .. }))
}

fn seal(event: &Event, keyring: &Keyring) -> Vec<u8> {
    rows::seal(keyring, event, &context(event.aggregate_id), &summary::private(event.fact.resource()))
}

/// The hashes of all rows, each with the number of its row.
fn keys(events: &[&Event], keyring: &Keyring) -> (Vec<i64>, Vec<i64>) {
    let of_row = |(row, event): (i64, &&Event)| blind::keys(keyring, event.fact.resource()).map(move |key| (row, key));
    (1..).zip(events).flat_map(of_row).unzip()
}
