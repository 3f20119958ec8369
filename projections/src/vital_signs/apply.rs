//! Events into rows: the values of the last version of an observation take the place of all earlier ones.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use nexus_domain::AnyEvent;
use nexus_domain::access::sensitivity;
use nexus_domain::fhir::{Coding, Comparator, Finding, Quantity, Resource, codings, findings};
use nexus_domain::observation::NotCounted;
use nexus_event_store::Keyring;
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Private, UnitCoding, context};
use crate::read_model::{ApplyError, Event};
use crate::rows::{self, StatedTime};

const VITAL_SIGNS: &str = "vital-signs";
/// A result beyond this size, in bytes of JSON, is read with its resource and not from a list.
const RESULT_BYTES_MAX: usize = 8 * 1024;

const UPSERT_OBSERVATIONS: &str = "
    insert into observations as t (observation, patient, sequence, codes)
    select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::jsonb[])
    on conflict (observation) do update set patient = excluded.patient, sequence = excluded.sequence,
        codes = excluded.codes
    where excluded.sequence > t.sequence
    returning observation";

const INSERT_VALUES: &str = "
    insert into measurements (observation, component, coding, patient, system, code, effective_at, effective_until,
        effective, kind, value, comparator, unit, status, sensitivity, sealed)
    select observation, component, coding, patient, system, code, coalesce(effective_at, '-infinity'),
        coalesce(effective_until, case when effective_at is null then '-infinity' else 'infinity' end::timestamptz),
        effective, kind, value, comparator, unit, status, sensitivity, sealed
    from unnest($1::uuid[], $2::smallint[], $3::smallint[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[],
        $8::timestamptz[], $9::jsonb[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
        $15::smallint[], $16::bytea[])
        as new (observation, component, coding, patient, system, code, effective_at, effective_until, effective, kind,
            value, comparator, unit, status, sensitivity, sealed)";

const UPSERT_PATIENTS: &str = "
    insert into patients as t (patient, sequence) select * from unnest($1::uuid[], $2::bigint[])
    on conflict (patient) do update set sequence = excluded.sequence where excluded.sequence > t.sequence";

pub(super) async fn apply(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    apply_patients(tx, events).await?;
    let observations = rows::latest(events, concerns_us);
    if observations.is_empty() {
        return Ok(());
    }
    let newer = upsert_observations(tx, &observations).await?;
    remove_values(tx, &observations, &newer).await?;
    let newer = observations.into_iter().filter(|event| newer.contains(&event.aggregate_id));
    insert_values(tx, &newer.flat_map(|event| values(event, keyring)).collect::<Vec<_>>()).await
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
        .bind(values.iter().map(|row| row.effective_until).collect::<Vec<_>>())
        .bind(values.iter().map(|row| row.effective.clone().map(Json)).collect::<Vec<_>>())
        .bind(values.iter().map(|row| row.kind).collect::<Vec<_>>())
        .bind(values.iter().map(|row| row.value.as_deref()).collect::<Vec<_>>())
        .bind(values.iter().map(|row| row.comparator.map(Comparator::as_str)).collect::<Vec<_>>())
        .bind(values.iter().map(|row| row.unit.as_deref().map(rows::column)).collect::<Vec<_>>())
        .bind(values.iter().map(|row| rows::column(&row.status)).collect::<Vec<_>>())
        .bind(values.iter().map(|row| row.sensitivity).collect::<Vec<_>>())
        .bind(values.iter().map(|row| row.sealed.as_deref()).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

#[derive(Clone)]
struct Row {
    observation: Uuid,
    component: i16,
    coding_index: i16,
    patient: Uuid,
    coding: Option<Coding>,
    effective_at: Option<DateTime<Utc>>,
    effective_until: Option<DateTime<Utc>>,
    effective: Option<StatedTime>,
    kind: &'static str,
    value: Option<String>,
    comparator: Option<Comparator>,
    unit: Option<String>,
    status: String,
    sensitivity: i16,
    sealed: Option<Vec<u8>>,
}

/// The rows of an observation: its own result and those of its components, each under each of its codes.
fn values(event: &Event, keyring: &Keyring) -> Vec<Row> {
    let observation = event.fact.resource();
    if !is_vital_sign(observation) || !is_listed(event) {
        return Vec::new();
    }
    findings(observation).into_iter().flat_map(|finding| rows_of(event, keyring, finding)).collect()
}

/// What the patient's own is, whether it stands or not: the status says that, and who asks for what was taken back gets it.
fn is_listed(event: &Event) -> bool {
    match rows::counts(event) {
        Ok(()) | Err(NotCounted::NotStated) => true,
        // Whatever else is wrong with it is not told by what was taken back.
        Err(NotCounted::TakenBack) => nexus_domain::observation::about(event.fact.resource()).is_none(),
        Err(NotCounted::NotThePatient | NotCounted::NotUnderstood) => false,
    }
}

fn rows_of(event: &Event, keyring: &Keyring, finding: Finding<'_>) -> Vec<Row> {
    let component = match finding.component.map(i16::try_from) {
        None => -1,
        Some(Ok(index)) => index,
        // Nobody measures so much at a time.
        Some(Err(_)) => return Vec::new(),
    };
    let when = rows::occurred(event);
    let quantity = Quantity::of(finding.value).filter(|_| finding.element == "valueQuantity");
    let private = private(&finding, quantity.as_ref());
    let row = Row {
        observation: event.aggregate_id,
        component,
        coding_index: 0,
        patient: event.subject,
        coding: None,
        effective_at: when.as_ref().map(|when| when.earliest()),
        effective_until: when.as_ref().and_then(|when| when.latest()),
        effective: when.as_ref().map(StatedTime::from),
        kind: finding.element,
        value: quantity.as_ref().map(|quantity| quantity.value.clone()),
        comparator: quantity.as_ref().and_then(|quantity| quantity.comparator),
        unit: quantity.as_ref().and_then(Quantity::ucum).map(str::to_owned),
        status: event.fact.resource().text("status").unwrap_or("unknown").to_owned(),
        sensitivity: sensitivity(event.fact.resource()),
        sealed: None,
    };
    let codings = if finding.codings.is_empty() { vec![None] } else { finding.codings.into_iter().map(Some).collect() };
    let coded = |(coding_index, coding)| {
        let context = context(row.observation, component, coding_index);
        let sealed = private.as_ref().map(|private| rows::seal(keyring, event, &context, private));
        Row { coding_index, coding, sealed, ..row.clone() }
    };
    (0..i16::MAX).zip(codings).map(coded).collect()
}

/// What the columns do not say; nothing if they say all, as they do of a number with a UCUM unit.
fn private(finding: &Finding<'_>, quantity: Option<&Quantity>) -> Option<Private> {
    match quantity {
        Some(quantity) if quantity.ucum().is_some() => None,
        Some(Quantity { unit, system, code, .. }) => {
            let unit_coding = code.clone().map(|code| UnitCoding { system: system.clone(), code });
            let is_said = unit.is_some() || unit_coding.is_some();
            is_said.then(|| Private { unit_text: unit.clone(), unit_coding, result: None })
        }
        None => Some(Private { result: shown(finding), ..Private::default() }),
    }
}

/// The element as it stands, unless it is too large for a list; of sampled data without the samples.
fn shown(finding: &Finding<'_>) -> Option<Value> {
    let mut shown = finding.value.clone();
    if let (true, Some(members)) = (finding.element == "valueSampledData", shown.as_object_mut()) {
        members.shift_remove("data");
    }
    let size = serde_json::to_vec(&shown).map_or(usize::MAX, |json| json.len());
    (size <= RESULT_BYTES_MAX).then_some(shown)
}
