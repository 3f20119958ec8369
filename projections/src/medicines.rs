//! Medicines of the directory: a read model that shows orders keeps beside them what each Medication is called and by what
//! consents and labels may mean it, and joins both when it is read (the views of its schema). So it does not matter which of the two came first, and
//! a label that is set later counts.

use nexus_domain::access::{lenders, sensitivity};
use nexus_domain::fhir::{Resource, naming};
use nexus_event_store::Keyring;
use nexus_web::problem::Problem;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::query_api::{QueryApi, Sealed};
use crate::read_model::{ApplyError, Event};
use crate::rows;

const UPSERT: &str = "
    insert into medicines as t (medicine, sequence, sensitivity, codes, sealed)
    select * from unnest($1::uuid[], $2::bigint[], $3::smallint[], $4::jsonb[], $5::bytea[])
    on conflict (medicine) do update
    set sequence = excluded.sequence, sensitivity = excluded.sensitivity, codes = excluded.codes,
        sealed = excluded.sealed
    where excluded.sequence > t.sequence";

/// Keeps the table `medicines` of a read model up to date.
pub async fn apply(
    tx: &mut PgConnection,
    events: &[Event],
    keyring: &Keyring,
    read_model: &str,
) -> Result<(), ApplyError> {
    let is_medicine = |event: &Event| event.fact.resource().resource_type() == "Medication";
    let medicines = rows::latest(events, is_medicine);
    if medicines.is_empty() {
        return Ok(());
    }
    let resources = || medicines.iter().map(|event| event.fact.resource());
    let seal = |event: &&Event| {
        let context = context(read_model, event.aggregate_id);
        rows::seal(keyring, event, &context, &name(event.fact.resource()))
    };
    sqlx::query(UPSERT)
        .bind(medicines.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
        .bind(medicines.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(resources().map(sensitivity).collect::<Vec<_>>())
        .bind(resources().map(rows::codes).collect::<Vec<_>>())
        .bind(medicines.iter().map(seal).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

/// The Medication of the directory that a resource is about.
pub fn medicine(resource: &Resource) -> Option<Uuid> {
    lenders(resource).into_iter().find(|(kind, _)| *kind == "Medication").map(|(_, id)| id)
}

/// The conditions that a resource gets codes from.
pub fn reasons(resource: &Resource) -> Json<Vec<Uuid>> {
    let lenders = lenders(resource).into_iter();
    Json(lenders.filter(|(kind, _)| *kind == "Condition").map(|(_, id)| id).collect())
}

/// Opens the names of medicines: one for each row that has none of its own but names a Medication.
pub async fn open_names(
    api: &QueryApi,
    read_model: &str,
    named: Vec<Option<(Uuid, Vec<u8>)>>,
) -> Result<Vec<Option<String>>, Problem> {
    let sealed = named.iter().flatten().map(|(medicine, bytes)| Sealed {
        subject: *medicine,
        context: context(read_model, *medicine),
        bytes: bytes.clone(),
    });
    let opened: Vec<Option<Option<String>>> = api.open_of_no_patient(sealed.collect()).await?;
    let mut opened = opened.into_iter();
    Ok(named.into_iter().map(|name| name.and_then(|_| opened.next().flatten().flatten())).collect())
}

/// A Medication may be known by its ingredients only.
fn name(medication: &Resource) -> Option<String> {
    let ingredients = medication.items("ingredient").iter();
    let mut ingredients =
        ingredients.filter_map(|item| naming::words_of(item.get("itemCodeableConcept").or(item.get("itemReference"))?));
    naming::called(medication).map(str::to_owned).or_else(|| ingredients.next().map(str::to_owned))
}

fn context(read_model: &str, medicine: Uuid) -> String {
    format!("{read_model}/medicines/{medicine}")
}
