//! Who has to be looked after now, by ward and by patient.

mod apply;
mod query;
mod routes;

use async_trait::async_trait;
use nexus_event_store::Keyring;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::read_model::{ApplyError, Event, ReadModel};

pub(crate) use query::{Of, Row, StandingAlert, open, standing};
pub use routes::router;

/// The read model's name.
pub const NAME: &str = "ward_alerts";

/// Alerts that stand, by location.
pub struct WardAlerts;

#[async_trait]
impl ReadModel for WardAlerts {
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
        matches!(aggregate_type, "Alert" | "Encounter" | "Patient")
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
        apply::apply(tx, events, keyring).await
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        let mut rows = 0;
        for table in ["alerts", "stays", "people"] {
            let delete = format!("delete from {table} where patient = $1");
            rows += sqlx::query(&delete).bind(subject).execute(&mut *tx).await?.rows_affected();
        }
        Ok(rows)
    }
}
