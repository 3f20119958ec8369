//! Events into rows: each resource of a chart in its section.

use nexus_domain::AnyEvent;
use nexus_domain::access::sensitivity;
use nexus_domain::fhir::stance;
use nexus_event_store::Keyring;
use sqlx::PgConnection;
use sqlx::types::Json;

use super::{NAME, Section, context, details, section};
use crate::medicines;
use crate::read_model::{ApplyError, Event};
use crate::rows::{self, StatedTime};

const UPSERT: &str = "
    insert into entries as t (id, resource_type, patient, section, sequence, status, standing, system, code,
        started_at, ended_at, sensitivity, qualifier, medicine, reasons, codes, sealed, occurred)
    select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::bigint[], $6::text[], $7::smallint[],
        $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[], $12::smallint[], $13::text[], $14::uuid[],
        $15::jsonb[], $16::jsonb[], $17::bytea[], $18::jsonb[])
    on conflict (id, resource_type) do update
    set patient = excluded.patient, section = excluded.section, sequence = excluded.sequence, status = excluded.status,
        standing = excluded.standing, system = excluded.system, code = excluded.code,
        started_at = excluded.started_at, ended_at = excluded.ended_at, sensitivity = excluded.sensitivity,
        qualifier = excluded.qualifier, medicine = excluded.medicine, reasons = excluded.reasons,
        codes = excluded.codes, sealed = excluded.sealed, occurred = excluded.occurred
    where excluded.sequence > t.sequence";

const UPSERT_PATIENTS: &str = "
    insert into patients as t (patient, sequence) select * from unnest($1::uuid[], $2::bigint[])
    on conflict (patient) do update set sequence = excluded.sequence where excluded.sequence > t.sequence";

pub(super) async fn apply(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    apply_patients(tx, events).await?;
    medicines::apply(tx, events, keyring, NAME).await?;
    let events = rows::latest(events, |event| section_of(event).is_some());
    let sections: Vec<_> = events.iter().filter_map(|event| section_of(event)).map(Section::as_str).collect();
    let concepts = events.iter().map(|event| rows::code_of(event.fact.resource()));
    let (systems, codes): (Vec<_>, Vec<_>) = concepts.map(Option::unzip).unzip();
    sqlx::query(UPSERT)
        .bind(events.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.fact.resource().resource_type()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.subject).collect::<Vec<_>>())
        .bind(sections)
        .bind(events.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(events.iter().map(|event| rows::status_of(event.fact.resource()).map(rows::column)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| section::standing(event.fact.resource())).collect::<Vec<_>>())
        .bind(systems)
        .bind(codes)
        .bind(events.iter().map(|event| rows::stands_at(event)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| section::ended_at(event.fact.resource())).collect::<Vec<_>>())
        .bind(events.iter().map(|event| sensitivity(event.fact.resource())).collect::<Vec<_>>())
        .bind(events.iter().map(|event| stance(event.fact.resource()).qualifier()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| medicines::medicine(event.fact.resource())).collect::<Vec<_>>())
        .bind(events.iter().map(|event| medicines::reasons(event.fact.resource())).collect::<Vec<_>>())
        .bind(events.iter().map(|event| rows::codes(event.fact.resource())).collect::<Vec<_>>())
        .bind(events.iter().map(|event| seal(event, keyring)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| stated(event)).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

async fn apply_patients(tx: &mut PgConnection, events: &[Event]) -> Result<(), ApplyError> {
    let patients = rows::latest(events, |event| matches!(event.fact, AnyEvent::Patient(_)));
    if patients.is_empty() {
        return Ok(());
    }
    sqlx::query(UPSERT_PATIENTS)
        .bind(patients.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
        .bind(patients.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

fn stated(event: &Event) -> Option<Json<StatedTime>> {
    rows::occurred(event).map(|when| Json(StatedTime::from(&when)))
}

fn section_of(event: &Event) -> Option<Section> {
    Section::of(event.fact.resource().resource_type())
}

fn seal(event: &Event, keyring: &Keyring) -> Vec<u8> {
    let resource = event.fact.resource();
    let section = section_of(event).unwrap_or(Section::Documents);
    let context = context(resource.resource_type(), event.aggregate_id);
    rows::seal(keyring, event, &context, &details::private(section, resource))
}
