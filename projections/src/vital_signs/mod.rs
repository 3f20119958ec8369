//! Series of measured values by code and time: vital signs, components included.
//!
//! What is not laboratory, imaging and the like: observations of the category `vital-signs`, and those without any
//! category, since a bedside device may not bother. Nothing here identifies anybody, so nothing is sealed.

mod apply;
mod query;
mod routes;

use async_trait::async_trait;
use nexus_event_store::Keyring;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::read_model::{ApplyError, Event, ReadModel};

pub use routes::router;

/// The read model's name.
pub const NAME: &str = "vital_signs";

/// Measured values by patient, code and time.
pub struct VitalSigns;

#[async_trait]
impl ReadModel for VitalSigns {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i32 {
        3
    }

    fn schema_sql(&self) -> &'static str {
        include_str!("schema.sql")
    }

    fn wants(&self, aggregate_type: &str) -> bool {
        matches!(aggregate_type, "Patient" | "Observation")
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], _: &Keyring) -> Result<(), ApplyError> {
        apply::apply(tx, events).await
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        let mut rows = 0;
        for table in ["measurements", "observations", "patients"] {
            let delete = format!("delete from {table} where patient = $1");
            rows += sqlx::query(&delete).bind(subject).execute(&mut *tx).await?.rows_affected();
        }
        Ok(rows)
    }
}
