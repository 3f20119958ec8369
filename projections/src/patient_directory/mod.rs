//! Who the patients are: found by medical record number, by name with typos, by birth date.
//!
//! Nothing in the tables reads as a name or a number: see [`blind`] for how they are found nevertheless.

mod apply;
mod blind;
mod names;
mod query;
mod rank;
mod routes;
mod summary;

use async_trait::async_trait;
use nexus_event_store::Keyring;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::read_model::{ApplyError, Event, ReadModel};

pub use routes::router;

/// The read model's name.
pub const NAME: &str = "patient_directory";

/// Patients by what is known of them.
pub struct PatientDirectory;

#[async_trait]
impl ReadModel for PatientDirectory {
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
        aggregate_type == "Patient"
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
        apply::apply(tx, events, keyring).await
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        let deleted = sqlx::query("delete from patients where patient = $1").bind(subject).execute(tx).await?;
        Ok(deleted.rows_affected())
    }
}

/// What the seal of a row is bound to.
fn context(patient: Uuid) -> String {
    format!("patient_directory/patients/{patient}")
}
