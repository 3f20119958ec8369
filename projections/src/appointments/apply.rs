//! Events into rows: the appointment as it stands, in the calendar of everyone who takes part.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use nexus_domain::AnyEvent;
use nexus_domain::fhir::Resource;
use nexus_domain::fhir::modifiers::is_understood;
use nexus_event_store::Keyring;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::query::Private;
use super::{NAME, context};
use crate::read_model::{ApplyError, Event};
use crate::{people, rows};

const UPSERT: &str = "
    insert into appointments as t (appointment, patient, sequence, status, starts_at, ends_at, sealed)
    select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::timestamptz[], $6::timestamptz[],
        $7::bytea[])
    on conflict (appointment) do update
    set patient = excluded.patient, sequence = excluded.sequence, status = excluded.status,
        starts_at = excluded.starts_at, ends_at = excluded.ends_at, sealed = excluded.sealed
    where excluded.sequence > t.sequence
    returning appointment";

const INSERT_CALENDARS: &str = "
    insert into calendars (practitioner, starts_at, ends_at, appointment, patient)
    select practitioner, starts_at, ends_at, appointment, patient
    from unnest($1::uuid[], $2::uuid[]) as new (practitioner, appointment) join appointments using (appointment)
    where starts_at is not null
    on conflict do nothing";

pub(super) async fn apply(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    people::apply(tx, events, keyring, NAME).await?;
    let appointments = rows::latest(events, |event| matches!(event.fact, AnyEvent::Appointment(_)));
    if appointments.is_empty() {
        return Ok(());
    }
    let newer = upsert(tx, &appointments, keyring).await?;
    let newer: Vec<_> = appointments.into_iter().filter(|event| newer.contains(&event.aggregate_id)).collect();
    replace_calendars(tx, &newer).await
}

async fn upsert(tx: &mut PgConnection, events: &[&Event], keyring: &Keyring) -> Result<HashSet<Uuid>, ApplyError> {
    let resources = || events.iter().map(|event| event.fact.resource());
    let newer: Vec<Uuid> = sqlx::query_scalar(UPSERT)
        .bind(events.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.subject).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(
            resources().map(|resource| rows::column(resource.text("status").unwrap_or("unknown"))).collect::<Vec<_>>(),
        )
        .bind(resources().map(starts_at).collect::<Vec<_>>())
        .bind(resources().map(|resource| rows::moment(resource.text("end"))).collect::<Vec<_>>())
        .bind(events.iter().map(|event| seal(event, keyring)).collect::<Vec<_>>())
        .fetch_all(tx)
        .await?;
    Ok(newer.into_iter().collect())
}

async fn replace_calendars(tx: &mut PgConnection, events: &[&Event]) -> Result<(), ApplyError> {
    let appointments: Vec<_> = events.iter().map(|event| event.aggregate_id).collect();
    sqlx::query("delete from calendars where appointment = any($1)").bind(&appointments).execute(&mut *tx).await?;
    let places = events.iter().flat_map(|event| {
        let practitioners = practitioners(event.fact.resource());
        practitioners.into_iter().map(|practitioner| (practitioner, event.aggregate_id))
    });
    let (practitioners, appointments): (Vec<_>, Vec<_>) = places.unzip();
    sqlx::query(INSERT_CALENDARS).bind(practitioners).bind(appointments).execute(tx).await?;
    Ok(())
}

/// What nobody understands stands in no calendar.
fn starts_at(appointment: &Resource) -> Option<DateTime<Utc>> {
    rows::moment(appointment.text("start")).filter(|_| is_understood(appointment))
}

fn practitioners(appointment: &Resource) -> Vec<Uuid> {
    let actors = appointment.items("participant").iter().map(|participant| participant.pointer("/actor/reference"));
    actors.filter_map(|reference| rows::referenced(reference.and_then(Value::as_str), "Practitioner")).collect()
}

fn seal(event: &Event, keyring: &Keyring) -> Vec<u8> {
    let resource = event.fact.resource();
    let reason = rows::concept_text(resource.get("reasonCode"))
        .or_else(|| rows::concept_text(resource.get("serviceType")))
        .or_else(|| rows::concept_text(resource.get("appointmentType")));
    let private = Private {
        reason: reason.map(str::to_owned),
        description: resource.text("description").map(str::to_owned),
        comment: resource.text("comment").map(str::to_owned),
    };
    rows::seal(keyring, event, &context(event.aggregate_id), &private)
}
