//! Every FHIR resource in its newest version, to be read back as it was sent.

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
pub const NAME: &str = "fhir_resources";

/// Resources by type and id.
pub struct FhirResources;

#[async_trait]
impl ReadModel for FhirResources {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i32 {
        1
    }

    fn schema_sql(&self) -> &'static str {
        include_str!("schema.sql")
    }

    fn wants(&self, _: &str) -> bool {
        true
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
        apply::apply(tx, events, keyring).await
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        let deleted = sqlx::query("delete from resources where subject = $1").bind(subject).execute(tx).await?;
        Ok(deleted.rows_affected())
    }
}

/// What the seal of a resource is bound to.
fn context(resource_type: &str, id: Uuid) -> String {
    format!("fhir_resources/resources/{resource_type}/{id}")
}
