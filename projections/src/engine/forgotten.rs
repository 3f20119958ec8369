//! What was dropped of erased subjects, for their receipts: numbers, and nothing of what it was.

use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use super::checkpoint::Name;

/// What a version of a read model has dropped of an erased subject.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Forgotten {
    pub read_model: String,
    pub version: i32,
    /// The event that erased the subject; nothing as long as only its key is known to be gone.
    pub position: Option<i64>,
    pub rows: i64,
    /// Events that waited among the parked ones.
    pub parked: i64,
}

/// Adds to what is written down. A rebuild meets many events of erased subjects: only what tells something is kept.
pub(crate) async fn note(
    tx: &mut PgConnection,
    name: Name<'_>,
    (partition, position): (i32, Option<i64>),
    subject: Uuid,
    (rows, parked): (u64, i64),
) -> Result<(), sqlx::Error> {
    if position.is_none() && rows == 0 && parked == 0 {
        return Ok(());
    }
    sqlx::query(
        "insert into projection.forgotten as known (read_model, version, subject, partition, position, rows, parked)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (read_model, version, subject) do update
         set position = coalesce(excluded.position, known.position), rows = known.rows + excluded.rows,
             parked = known.parked + excluded.parked, forgotten_at = now()",
    )
    .bind(name.read_model)
    .bind(name.version)
    .bind(subject)
    .bind(partition)
    .bind(position)
    .bind(i64::try_from(rows).unwrap_or(i64::MAX))
    .bind(parked)
    .execute(tx)
    .await
    .map(drop)
}

/// What each version of each read model has dropped of a subject.
pub async fn of_subject(pool: &PgPool, subject: Uuid) -> Result<Vec<Forgotten>, sqlx::Error> {
    sqlx::query_as(
        "select read_model, version, position, rows, parked from projection.forgotten
         where subject = $1 order by read_model, version",
    )
    .bind(subject)
    .fetch_all(pool)
    .await
}
