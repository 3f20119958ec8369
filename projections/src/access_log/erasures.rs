//! Forgetting in the access log. Its own log never tells of an erasure: the log of the events does, so this is a read model
//! of that one, without rows of its own.

use async_trait::async_trait;
use nexus_event_store::Keyring;
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use super::AccessLog;
use crate::engine::versions;
use crate::read_model::{ApplyError, Event, ReadModel, schema_of};

/// Drops from the access log whom the log of the events says is erased.
pub struct AccessErasures;

#[async_trait]
impl ReadModel for AccessErasures {
    fn name(&self) -> &'static str {
        "access_erasures"
    }

    fn version(&self) -> i32 {
        1
    }

    fn schema_sql(&self) -> &'static str {
        "-- No tables: what is dropped is the access log's."
    }

    fn wants(&self, aggregate_type: &str) -> bool {
        aggregate_type == "Patient"
    }

    async fn apply(&self, _: &mut PgConnection, _: &[Event], _: &Keyring) -> Result<(), ApplyError> {
        Ok(())
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        let mut rows = 0;
        for version in versions::of(&mut *tx, AccessLog.name()).await? {
            rows += forget_in(tx, &schema_of(&version.read_model, version.version), subject).await?;
        }
        Ok(rows)
    }
}

/// The version that is served and those that are filled or kept beside it: all of them hold who looked at whom.
async fn forget_in(tx: &mut PgConnection, schema: &str, subject: Uuid) -> Result<u64, sqlx::Error> {
    // Waits for those who are linking, and keeps others waiting until they can see that the subject is forgotten.
    let alone = format!("lock table {schema}.access_patients in share row exclusive mode");
    tx.execute(alone.as_str()).await?;
    let unlink = format!(
        "with gone as (delete from {schema}.access_patients where patient = $1 returning access)
             update {schema}.accesses set target = null, forgotten = true where id in (select access from gone)"
    );
    Ok(sqlx::query(&unlink).bind(subject).execute(tx).await?.rows_affected())
}
