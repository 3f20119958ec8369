//! The chart of a patient: problems, allergies, medications, encounters, procedures, immunizations and documents, what
//! is current first.

mod apply;
mod details;
mod query;
mod routes;
mod section;

use async_trait::async_trait;
use nexus_event_store::Keyring;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::read_model::{ApplyError, Event, ReadModel};

pub use routes::router;
pub use section::Section;

/// The read model's name.
pub const NAME: &str = "patient_chart";

/// Charts by patient.
pub struct PatientChart;

#[async_trait]
impl ReadModel for PatientChart {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i32 {
        4
    }

    fn schema_sql(&self) -> &'static str {
        include_str!("schema.sql")
    }

    fn wants(&self, aggregate_type: &str) -> bool {
        matches!(
            aggregate_type,
            "Patient" | "Condition" | "Allergy" | "MedicationOrder" | "Encounter" | "ClinicalRecord" | "DirectoryEntry"
        )
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
        apply::apply(tx, events, keyring).await
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        let entries = sqlx::query("delete from entries where patient = $1").bind(subject).execute(&mut *tx).await?;
        let patients = sqlx::query("delete from patients where patient = $1").bind(subject).execute(&mut *tx).await?;
        let medicines = sqlx::query("delete from medicines where medicine = $1").bind(subject).execute(tx).await?;
        Ok(entries.rows_affected() + patients.rows_affected() + medicines.rows_affected())
    }
}

/// What the seal of a row is bound to.
fn context(resource_type: &str, id: Uuid) -> String {
    format!("patient_chart/entries/{resource_type}/{id}")
}
