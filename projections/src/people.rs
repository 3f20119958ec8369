//! Names for lists: a read model that shows who or where something is keeps the name beside it, sealed, and does not ask
//! another read model.

use nexus_domain::fhir::Resource;
use nexus_event_store::Keyring;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;

use crate::read_model::{ApplyError, Event};
use crate::rows;

const UPSERT_PEOPLE: &str = "
    insert into people as t (patient, sequence, sealed) select * from unnest($1::uuid[], $2::bigint[], $3::bytea[])
    on conflict (patient) do update set sequence = excluded.sequence, sealed = excluded.sealed
    where excluded.sequence > t.sequence";

/// Who somebody is, as far as a list shows it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// FHIR HumanName.
    #[schema(value_type = Vec<Object>)]
    pub name: Vec<Value>,
    pub birth_date: Option<String>,
    pub gender: Option<String>,
}

impl Person {
    fn of(patient: &Resource) -> Self {
        Self {
            name: patient.items("name").to_vec(),
            birth_date: patient.text("birthDate").map(str::to_owned),
            gender: patient.text("gender").map(str::to_owned),
        }
    }
}

/// What the seal of a name in the table `people` of a read model is bound to.
pub fn context(read_model: &str, patient: uuid::Uuid) -> String {
    format!("{read_model}/people/{patient}")
}

/// Keeps the table `people` of a read model up to date.
pub async fn apply(
    tx: &mut PgConnection,
    events: &[Event],
    keyring: &Keyring,
    read_model: &str,
) -> Result<(), ApplyError> {
    let people = rows::latest(events, |event| event.aggregate_type == "Patient");
    if people.is_empty() {
        return Ok(());
    }
    let seal = |event: &&Event| {
        let context = context(read_model, event.aggregate_id);
        rows::seal(keyring, event, &context, &Person::of(event.fact.resource()))
    };
    sqlx::query(UPSERT_PEOPLE)
        .bind(people.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
        .bind(people.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(people.iter().map(seal).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}
