//! Everything of a patient in clinical order, whatever it is.

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
pub const NAME: &str = "timeline";

/// Timelines by patient.
pub struct Timeline;

#[async_trait]
impl ReadModel for Timeline {
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
        aggregate_type != "DirectoryEntry"
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
        apply::apply(tx, events, keyring).await
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        let deleted = sqlx::query("delete from entries where patient = $1").bind(subject).execute(tx).await?;
        Ok(deleted.rows_affected())
    }
}

/// What the seal of a row is bound to.
fn context(resource_type: &str, id: Uuid) -> String {
    format!("timeline/entries/{resource_type}/{id}")
}
