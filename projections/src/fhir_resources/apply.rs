//! Events into rows: the resource of the last event, sealed whole.

use nexus_domain::AnyEvent;
use nexus_domain::clinical_record::ClinicalRecordEvent;
use nexus_domain::fhir::modifiers::has_error_status;
use nexus_event_store::Keyring;
use sqlx::PgConnection;

use super::context;
use crate::read_model::{ApplyError, Event};
use crate::rows;

const UPSERT: &str = "
    insert into resources as t (resource_type, id, subject, sequence, recorded_at, retracted, sealed)
    select * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::bigint[], $5::timestamptz[], $6::boolean[], $7::bytea[])
    on conflict (id, resource_type) do update
    set subject = excluded.subject, sequence = excluded.sequence, recorded_at = excluded.recorded_at,
        retracted = excluded.retracted, sealed = excluded.sealed
    where excluded.sequence > t.sequence";

pub(super) async fn apply(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    let events = rows::latest(events, |_| true);
    let types: Vec<_> = events.iter().map(|event| event.fact.resource().resource_type()).collect();
    let ids: Vec<_> = events.iter().map(|event| event.aggregate_id).collect();
    let subjects: Vec<_> = events.iter().map(|event| event.subject).collect();
    let sequences: Vec<_> = events.iter().map(|event| event.sequence).collect();
    let recorded: Vec<_> = events.iter().map(|event| event.recorded_at).collect();
    let retracted: Vec<_> = events.iter().map(|event| retracted(event)).collect();
    let sealed: Vec<_> = events.iter().map(|event| seal(event, keyring)).collect();
    sqlx::query(UPSERT)
        .bind(types)
        .bind(ids)
        .bind(subjects)
        .bind(sequences)
        .bind(recorded)
        .bind(retracted)
        .bind(sealed)
        .execute(tx)
        .await?;
    Ok(())
}

fn seal(event: &Event, keyring: &Keyring) -> Vec<u8> {
    let resource = event.fact.resource();
    rows::seal(keyring, event, &context(resource.resource_type(), event.aggregate_id), resource)
}

/// A resource that says itself that it was entered in error stays readable; one that can't is gone.
fn retracted(event: &Event) -> bool {
    matches!(event.fact, AnyEvent::ClinicalRecord(ClinicalRecordEvent::Retracted { .. }))
        && !has_error_status(event.fact.resource())
}
