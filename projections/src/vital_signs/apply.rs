//! Events into rows: the values of the last version of an observation take the place of all earlier ones.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use nexus_domain::AnyEvent;
use nexus_domain::access::sensitivity;
use nexus_domain::fhir::{Coding, Measurement, Resource, codings, measurements};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::read_model::{ApplyError, Event};
use crate::rows;

const VITAL_SIGNS: &str = "vital-signs";
/// Beyond these many characters, or powers of ten, a number measures nothing and may not fit the column.
const DIGITS_MAX: usize = 60;
const MAGNITUDE_MAX: f64 = 1e60;

const UPSERT_OBSERVATIONS: &str = "
    insert into observations as t (observation, patient, sequence, codes)
    select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::jsonb[])
    on conflict (observation) do update set patient = excluded.patient, sequence = excluded.sequence,
        codes = excluded.codes
    where excluded.sequence > t.sequence
    returning observation";

const INSERT_VALUES: &str = "
    insert into measurements (observation, component, coding, patient, system, code, effective_at, value, unit, status,
        sensitivity)
    select observation, component, coding, patient, system, code, effective_at, value::numeric, unit, status, sensitivity
    from unnest($1::uuid[], $2::smallint[], $3::smallint[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[],
        $8::text[], $9::text[], $10::text[], $11::smallint[])
        as new (observation, component, coding, patient, system, code, effective_at, value, unit, status, sensitivity)";

const UPSERT_PATIENTS: &str = "
    insert into patients as t (patient, sequence) select * from unnest($1::uuid[], $2::bigint[])
    on conflict (patient) do update set sequence = excluded.sequence where excluded.sequence > t.sequence";

pub(super) async fn apply(tx: &mut PgConnection, events: &[Event]) -> Result<(), ApplyError> {
    apply_patients(tx, events).await?;
    let observations = rows::latest(events, concerns_us);
    if observations.is_empty() {
        return Ok(());
    }
    let newer = upsert_observations(tx, &observations).await?;
    remove_values(tx, &observations, &newer).await?;
    let newer = observations.into_iter().filter(|event| newer.contains(&event.aggregate_id));
    insert_values(tx, &newer.flat_map(values).collect::<Vec<_>>()).await
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

/// A vital sign, or what may have been one in an earlier version.
fn concerns_us(event: &Event) -> bool {
    matches!(event.fact, AnyEvent::Observation(_)) && (event.sequence > 1 || is_vital_sign(event.fact.resource()))
}

fn is_vital_sign(observation: &Resource) -> bool {
    let categories = observation.items("category");
    let of_vital_signs = |coding: &Coding| coding.code == VITAL_SIGNS;
    categories.is_empty() || categories.iter().any(|category| codings(Some(category)).iter().any(of_vital_signs))
}

/// Tells which of them are newer than what was known.
async fn upsert_observations(tx: &mut PgConnection, events: &[&Event]) -> Result<HashSet<Uuid>, ApplyError> {
    let newer: Vec<Uuid> = sqlx::query_scalar(UPSERT_OBSERVATIONS)
        .bind(events.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.subject).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(events.iter().map(|event| rows::codes(event.fact.resource())).collect::<Vec<_>>())
        .fetch_all(tx)
        .await?;
    Ok(newer.into_iter().collect())
}

async fn remove_values(tx: &mut PgConnection, events: &[&Event], newer: &HashSet<Uuid>) -> Result<(), ApplyError> {
    // Before its first version an observation has no values.
    let amended = events.iter().filter(|event| event.sequence > 1 && newer.contains(&event.aggregate_id));
    let amended: Vec<_> = amended.map(|event| event.aggregate_id).collect();
    if !amended.is_empty() {
        sqlx::query("delete from measurements where observation = any($1)").bind(amended).execute(tx).await?;
    }
    Ok(())
}

async fn insert_values(tx: &mut PgConnection, values: &[Row]) -> Result<(), ApplyError> {
    if values.is_empty() {
        return Ok(());
    }
    sqlx::query(INSERT_VALUES)
        .bind(values.iter().map(|row| row.observation).collect::<Vec<_>>())
        .bind(values.iter().map(|row| row.component).collect::<Vec<_>>())
        .bind(values.iter().map(|row| row.coding_index).collect::<Vec<_>>())
        .bind(values.iter().map(|row| row.patient).collect::<Vec<_>>())
        .bind(
            values.iter().map(|row| row.coding.as_ref().map(|coding| rows::column(&coding.system))).collect::<Vec<_>>(),
        )
        .bind(values.iter().map(|row| row.coding.as_ref().map(|coding| rows::column(&coding.code))).collect::<Vec<_>>())
        .bind(values.iter().map(|row| row.effective_at).collect::<Vec<_>>())
        .bind(values.iter().map(|row| row.value.as_str()).collect::<Vec<_>>())
        .bind(values.iter().map(|row| row.unit.as_deref().map(rows::column)).collect::<Vec<_>>())
        .bind(values.iter().map(|row| rows::column(&row.status)).collect::<Vec<_>>())
        .bind(values.iter().map(|row| row.sensitivity).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

struct Row {
    observation: Uuid,
    component: i16,
    coding_index: i16,
    patient: Uuid,
    coding: Option<Coding>,
    effective_at: DateTime<Utc>,
    value: String,
    unit: Option<String>,
    status: String,
    sensitivity: i16,
}

/// The rows of an observation: its own value and those of its components, each under each of its codes.
fn values(event: &Event) -> Vec<Row> {
    let observation = event.fact.resource();
    if !is_vital_sign(observation) {
        return Vec::new();
    }
    measurements(observation).into_iter().filter(fits).flat_map(|measurement| rows_of(event, measurement)).collect()
}

fn rows_of(event: &Event, measurement: Measurement) -> Vec<Row> {
    let Measurement { component, codings, quantity } = measurement;
    let codings = if codings.is_empty() { vec![None] } else { codings.into_iter().map(Some).collect() };
    let row = |(coding_index, coding)| Row {
        observation: event.aggregate_id,
        component: component.map_or(-1, |index| i16::try_from(index).unwrap_or(i16::MAX)),
        coding_index,
        patient: event.subject,
        coding,
        effective_at: rows::occurred_at(event),
        value: quantity.value.clone(),
        unit: quantity.code.clone(),
        status: event.fact.resource().text("status").unwrap_or("unknown").to_owned(),
        sensitivity: sensitivity(event.fact.resource()),
    };
    (0..i16::MAX).zip(codings).map(row).collect()
}

fn fits(measurement: &Measurement) -> bool {
    let Measurement { component, quantity, .. } = measurement;
    let size = quantity.number.abs();
    let sensible = size <= MAGNITUDE_MAX && (size >= 1.0 / MAGNITUDE_MAX || !quantity.value.contains(['e', 'E']));
    sensible && quantity.value.len() <= DIGITS_MAX && component.is_none_or(|index| i16::try_from(index).is_ok())
}
