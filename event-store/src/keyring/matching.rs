//! Whether a key store belongs to a log.
//!
//! A wrong one would not only fail to open what is there: it would give subjects that it does not know new keys, and what was
//! sealed with the old ones would be lost the day the right store is back.

use sqlx::PgPool;
use uuid::Uuid;

use super::Keyring;
use crate::error::Error;
use crate::event::ERASED;

/// How many of the newest events of each partition are looked at.
const NEWEST_PER_PARTITION: i64 = 20;

impl Keyring {
    /// Refuses a key store that does not know the keys of the log's newest events. A key is stored before anything is
    /// sealed with it, so the store is another log's, or a copy from before those events. Whoever was erased since that copy is left out: they
    /// are erased again, and need no key for it.
    /// Who may not read a log, as those who write the access log, has nothing to open in it.
    pub async fn check_log(&self, log: &PgPool) -> Result<(), Error> {
        let may_read: bool =
            sqlx::query_scalar("select has_table_privilege('events', 'select')").fetch_one(log).await?;
        if !may_read {
            return Ok(());
        }
        let newest: Vec<Uuid> = sqlx::query_scalar(
            "select distinct e.key_id from heads h join events e on e.partition = h.partition
             where e.position > h.position - $1 and not exists (
                 select from events erasing where erasing.subject = e.subject and erasing.event_type = $2)",
        )
        .bind(NEWEST_PER_PARTITION)
        .bind(ERASED)
        .fetch_all(log)
        .await?;
        let unknown: i64 = sqlx::query_scalar(
            "select count(*) from unnest($1::uuid[]) as named (key_id)
             where not exists (select from subject_keys k where k.key_id = named.key_id)",
        )
        .bind(newest)
        .fetch_one(&self.0.store.pool)
        .await?;
        if unknown == 0 { Ok(()) } else { Err(Error::OtherKeyStore) }
    }
}
