//! Who may see whom: care relationships, consents in force, broken glass.

mod apply;
mod emergencies;
mod query;
mod routes;

use async_trait::async_trait;
use nexus_event_store::Keyring;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::read_model::{ApplyError, Event, ReadModel};

pub use query::{Grants, related};
pub use routes::router;

/// The read model's name.
pub const NAME: &str = "access_grants";

/// What decides about access.
pub struct AccessGrants;

#[async_trait]
impl ReadModel for AccessGrants {
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
        matches!(aggregate_type, "Encounter" | "Appointment" | "Consent" | "EmergencyAccess")
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
        apply::apply(tx, events, keyring).await
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        let mut forgotten = 0;
        for table in ["care", "consents", "emergencies"] {
            let delete = format!("delete from {table} where patient = $1");
            forgotten += sqlx::query(&delete).bind(subject).execute(&mut *tx).await?.rows_affected();
        }
        Ok(forgotten)
    }
}

/// What the seal of an emergency access is bound to.
fn emergency_context(id: Uuid) -> String {
    format!("{NAME}/emergencies/{id}")
}

/// What the seal of a consent is bound to.
fn consent_context(id: Uuid) -> String {
    format!("{NAME}/consents/{id}")
}
