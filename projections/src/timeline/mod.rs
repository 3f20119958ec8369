//! Everything of a patient in clinical order, whatever it is.

mod apply;
mod changes;
mod feed;
mod query;
mod routes;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use nexus_domain::AnyEvent;
use nexus_event_store::Keyring;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::medicines;
use crate::read_model::{ApplyError, Event, ReadModel};

pub(crate) use changes::WOKEN;
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
        5
    }

    fn schema_sql(&self) -> &'static str {
        include_str!("schema.sql")
    }

    /// Of the directory it keeps the names of medicines.
    fn wants(&self, _: &str) -> bool {
        true
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
        medicines::apply(tx, events, keyring, NAME).await?;
        apply::apply(tx, events, keyring).await?;
        changes::apply(tx, events, keyring).await
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        let mut forgotten = 0;
        for (table, column) in [("entries", "patient"), ("changes", "patient"), ("medicines", "medicine")] {
            let delete = format!("delete from {table} where {column} = $1");
            forgotten += sqlx::query(&delete).bind(subject).execute(&mut *tx).await?.rows_affected();
        }
        Ok(forgotten)
    }
}

/// Whether an event stands in somebody's timeline.
fn is_of_a_patient(event: &Event) -> bool {
    !matches!(event.fact, AnyEvent::DirectoryEntry(_))
}

/// What the seal of a change is bound to.
fn change_context(resource_type: &str, id: Uuid, sequence: i64) -> String {
    format!("timeline/changes/{resource_type}/{id}/{sequence}")
}

/// What the seal of a row is bound to.
fn context(resource_type: &str, id: Uuid) -> String {
    format!("timeline/entries/{resource_type}/{id}")
}

/// The place of an entry as the time that it states. A patient was registered then; whatever else states no time has none.
fn stated_at<T>(place: DateTime<Utc>, stated: Option<&T>, resource_type: &str) -> Option<DateTime<Utc>> {
    (stated.is_some() || resource_type == "Patient").then_some(place)
}
