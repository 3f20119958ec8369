//! Events into rows: what each resource is about, and when it was.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use nexus_domain::AnyEvent;
use nexus_domain::access::sensitivity;
use nexus_domain::fhir::modifiers::is_entered_in_error;
use nexus_domain::fhir::{naming, stance};
use nexus_domain::observation;
use nexus_event_store::Keyring;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::{context, is_of_a_patient};
use crate::medicines;
use crate::read_model::{ApplyError, Event};
use crate::rows::{self, StatedTime};

/// A count of notes that is not known from this batch stays as it was, and so does the place of a patient's own entry.
const UPSERT: &str = "
    insert into entries as t (id, resource_type, patient, sequence, occurred_at, recorded_at, event, status, system,
        code, notes, listed, qualifier, medicine, reasons, sensitivity, codes, sealed, occurred, about)
    select new.id, new.resource_type, new.patient, new.sequence,
        case when new.resource_type = 'Patient' then coalesce(old.occurred_at, new.occurred_at)
            else new.occurred_at end,
        new.recorded_at, new.event, new.status, new.system, new.code, coalesce(new.notes, old.notes, 0),
        new.listed, new.qualifier, new.medicine, new.reasons, new.sensitivity, new.codes, new.sealed, new.occurred,
        new.about
    from unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::integer[], $12::boolean[], $13::text[], $14::uuid[], $15::jsonb[],
        $16::smallint[], $17::jsonb[], $18::bytea[], $19::jsonb[], $20::text[])
        as new (id, resource_type, patient, sequence, occurred_at, recorded_at, event, status, system, code, notes,
            listed, qualifier, medicine, reasons, sensitivity, codes, sealed, occurred, about)
    left join entries as old using (id, resource_type)
    on conflict (id, resource_type) do update
    set patient = excluded.patient, sequence = excluded.sequence, occurred_at = excluded.occurred_at,
        recorded_at = excluded.recorded_at, event = excluded.event, status = excluded.status,
        system = excluded.system, code = excluded.code, notes = excluded.notes,
        listed = excluded.listed, qualifier = excluded.qualifier, medicine = excluded.medicine,
        reasons = excluded.reasons, sensitivity = excluded.sensitivity, codes = excluded.codes,
        sealed = excluded.sealed, occurred = excluded.occurred, about = excluded.about
    where excluded.sequence > t.sequence";

/// The events that state the resource anew, and with it which rules it breaks.
const STATING: &[&str] =
    &["Registered", "Updated", "Started", "Recorded", "Amended", "Prescribed", "Booked", "Granted", "Filed"];

pub(super) async fn apply(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    let notes = notes_by_aggregate(events);
    let registered = registered_at(events);
    let events = rows::latest(events, is_of_a_patient);
    let concepts = events.iter().map(|event| rows::code_of(event.fact.resource()));
    let (systems, codes): (Vec<_>, Vec<_>) = concepts.map(Option::unzip).unzip();
    sqlx::query(UPSERT)
        .bind(events.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.fact.resource().resource_type()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.subject).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(events.iter().map(|event| occurred_at(event, &registered)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.recorded_at).collect::<Vec<_>>())
        .bind(events.iter().map(|event| name_of(event)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| rows::status_of(event.fact.resource()).map(rows::column)).collect::<Vec<_>>())
        .bind(systems)
        .bind(codes)
        .bind(events.iter().map(|event| notes.get(&place(event)).copied()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| !is_entered_in_error(event.fact.resource())).collect::<Vec<_>>())
        .bind(events.iter().map(|event| stance(event.fact.resource()).qualifier()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| medicines::medicine(event.fact.resource())).collect::<Vec<_>>())
        .bind(events.iter().map(|event| medicines::reasons(event.fact.resource())).collect::<Vec<_>>())
        .bind(events.iter().map(|event| sensitivity(event.fact.resource())).collect::<Vec<_>>())
        .bind(events.iter().map(|event| rows::codes(event.fact.resource())).collect::<Vec<_>>())
        .bind(events.iter().map(|event| seal(event, keyring)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| stated(event)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| about(event)).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

type Place<'a> = (&'a str, Uuid);

fn place(event: &Event) -> Place<'_> {
    (&event.aggregate_type, event.aggregate_id)
}

/// The notes of the last event of each aggregate that states it anew.
fn notes_by_aggregate(events: &[Event]) -> HashMap<Place<'_>, i32> {
    let stating = events.iter().filter(|event| STATING.contains(&name_of(event).as_str()));
    stating.map(|event| (place(event), i32::try_from(event.fact.notes().len()).unwrap_or(i32::MAX))).collect()
}

/// When each patient of the batch is first met in it.
fn registered_at(events: &[Event]) -> HashMap<Uuid, DateTime<Utc>> {
    let mut first = HashMap::new();
    for event in events.iter().filter(|event| matches!(event.fact, AnyEvent::Patient(_))) {
        first.entry(event.aggregate_id).or_insert(event.recorded_at);
    }
    first
}

/// A patient stands where they were registered. The times in their own record, birth and death, identify them: those
/// are sealed (ADR 4) and place nothing.
fn occurred_at(event: &Event, registered: &HashMap<Uuid, DateTime<Utc>>) -> DateTime<Utc> {
    match event.fact {
        AnyEvent::Patient(_) => registered.get(&event.aggregate_id).copied().unwrap_or(event.recorded_at),
        _ => rows::stands_at(event),
    }
}

/// The clinical time as it was stated. A patient's own times are sealed.
pub(super) fn stated(event: &Event) -> Option<Json<StatedTime>> {
    let when = rows::occurred(event).filter(|_| !matches!(event.fact, AnyEvent::Patient(_)))?;
    Some(Json(StatedTime::from(&when)))
}

/// What an observation is about, if that is not the patient.
pub(super) fn about(event: &Event) -> Option<&str> {
    observation::about(event.fact.resource()).filter(|_| matches!(event.fact, AnyEvent::Observation(_)))
}

/// `Recorded` of `Observation.Recorded`: the resource type stands beside it.
pub(super) fn name_of(event: &Event) -> String {
    let full = event.fact.event_type();
    full.rsplit_once('.').map_or(full.clone(), |(_, name)| name.to_owned())
}

fn seal(event: &Event, keyring: &Keyring) -> Vec<u8> {
    let resource = event.fact.resource();
    rows::seal(keyring, event, &context(resource.resource_type(), event.aggregate_id), &naming::called(resource))
}
