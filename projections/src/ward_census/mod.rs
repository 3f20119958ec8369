//! Who is here now, by ward.

mod apply;
mod query;
mod routes;

use async_trait::async_trait;
use nexus_event_store::Keyring;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::read_model::{ApplyError, Event, ReadModel};

pub(crate) use query::{CensusEntry, Row, of_ward, open};
pub use routes::router;

/// The read model's name.
pub const NAME: &str = "ward_census";

/// Patients that are present, by location.
pub struct WardCensus;

#[async_trait]
impl ReadModel for WardCensus {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i32 {
        2
    }

    fn schema_sql(&self) -> &'static str {
        include_str!("schema.sql")
    }

    fn wants(&self, aggregate_type: &str) -> bool {
        matches!(aggregate_type, "Encounter" | "Patient" | "DirectoryEntry")
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
        apply::apply(tx, events, keyring).await
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        let mut rows = 0;
        for (table, column) in [("encounters", "patient"), ("people", "patient"), ("places", "location")] {
            let delete = format!("delete from {table} where {column} = $1");
            rows += sqlx::query(&delete).bind(subject).execute(&mut *tx).await?.rows_affected();
        }
        Ok(rows)
    }
}

/// What the seal of an encounter's row is bound to.
fn context(encounter: Uuid) -> String {
    format!("ward_census/encounters/{encounter}")
}

/// What the seal of a place's name is bound to.
fn place_context(location: Uuid) -> String {
    format!("ward_census/places/{location}")
}
