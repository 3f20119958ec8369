//! Who looked at whose data: the access log as an auditor, and a patient, may ask it.
//!
//! The only read model of the access log. An access whose completion never came, because the process was killed, stays
//! with an unknown outcome.

mod apply;
mod audit_event;
mod erasures;
mod query;
mod routes;

use async_trait::async_trait;
use nexus_domain::{AnyEvent, ReadError};
use nexus_event_store::{Header, Keyring};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::read_model::{ApplyError, Event, Log, ReadModel};

pub use erasures::AccessErasures;
pub use routes::router;

/// The read model's name.
pub const NAME: &str = "access_log";

/// Accesses by patient, by person and by time.
pub struct AccessLog;

#[async_trait]
impl ReadModel for AccessLog {
    fn name(&self) -> &'static str {
        NAME
    }

    fn log(&self) -> Log {
        Log::Access
    }

    fn version(&self) -> i32 {
        1
    }

    fn schema_sql(&self) -> &'static str {
        include_str!("schema.sql")
    }

    fn read(&self, header: &Header, payload: Value) -> Result<Vec<AnyEvent>, ReadError> {
        AnyEvent::foreign(&header.event_type, payload).map(|event| vec![event])
    }

    fn wants(&self, aggregate_type: &str) -> bool {
        aggregate_type == nexus_access_log::AGGREGATE_TYPE
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
        apply::apply(tx, events, keyring).await
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        let deleted = sqlx::query("delete from access_patients where patient = $1").bind(subject).execute(tx).await?;
        Ok(deleted.rows_affected())
    }
}

/// What the seal of a row is bound to.
fn context(id: Uuid) -> String {
    format!("access_log/accesses/{id}")
}

/// The keyed hash that an actor is looked up by.
fn actor_hash(keyring: &Keyring, actor: &str) -> [u8; 32] {
    keyring.blind("access-log/actor", actor)
}
