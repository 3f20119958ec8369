//! The list of events that could not be read or applied, each with the later events of its subject behind it.
//!
//! All changes happen under the lock of the partition's checkpoint row, so a retry and the running consumer take turns
//! and neither can slip an event past the other.

mod command;
mod http;
mod queues;
mod retry;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use nexus_event_store::{Header, SealedEvent};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

use super::checkpoint::Name;
use super::fault::Reason;

pub use command::{DiscardArgs, ListArgs, Operator, ParkedCommand, RetryArgs};
pub(crate) use command::{Keys, model, read_model};
pub(crate) use http::{ParkedRoutes, routes};
#[cfg(test)]
pub(crate) use queues::Stands;
pub(crate) use queues::{Queues, Search};
pub use retry::{Retried, Retry, RetryError, discard};

/// The reason of an event that only waits for an earlier one of its subject.
pub const BEHIND: &str = "behind";

const COLUMNS: &str = "partition, position, subject, aggregate_type, aggregate_id, sequence, event_type, event_version,
    key_id, recorded_at, traceparent, sealed, reason, attempts, causes, parked_at";

/// An event to be parked.
pub(crate) struct Row<'a> {
    pub(crate) event: &'a SealedEvent,
    pub(crate) reason: &'a Reason,
    pub(crate) attempts: u32,
}

/// A parked event.
#[derive(Clone, Debug, PartialEq)]
pub struct Parked {
    pub event: SealedEvent,
    pub reason: String,
    pub attempts: i32,
    pub parked_at: DateTime<Utc>,
}

/// A parked subject: the event it waits for, and how many wait.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[derive(utoipa::ToSchema)]
pub struct ParkedSubject {
    pub subject: Uuid,
    pub partition: i32,
    /// The first event of the queue, and why it is there.
    pub position: i64,
    pub reason: String,
    /// What is behind the reason, from the outside in. Codes and names of ours; never a value of the event.
    pub causes: Vec<String>,
    pub attempts: i32,
    /// Events in the queue, the first included.
    pub waiting: i64,
    pub since: DateTime<Utc>,
}

/// The parked subjects of a read model, oldest first.
pub async fn list(pool: &PgPool, name: Name<'_>, limit: i64) -> Result<Vec<ParkedSubject>, sqlx::Error> {
    let rows = sqlx::query(
        "select * from (
             select distinct on (subject) subject, partition, position, reason, causes, attempts, parked_at,
                    count(*) over (partition by subject) as waiting
             from projection.parked where read_model = $1 and version = $2
             order by subject, position) as subjects
         order by parked_at, subject limit $3",
    )
    .bind(name.read_model)
    .bind(name.version)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.iter().map(parked_subject).collect()
}

/// Where a page of [`page`] ended: since when, and of which version of which read model, a subject is parked.
pub(crate) type PageKey = (DateTime<Utc>, String, i32, Uuid);

/// A parked subject, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParkedEntry {
    pub read_model: String,
    pub version: i32,
    #[serde(flatten)]
    pub parked: ParkedSubject,
}

/// The parked subjects of all read models, or of one, in all their versions; oldest first.
pub(crate) async fn page(
    pool: &PgPool,
    read_model: Option<&str>,
    after: Option<PageKey>,
    limit: i64,
) -> Result<Vec<ParkedEntry>, sqlx::Error> {
    let (since, name, version, subject) = match after {
        Some((since, name, version, subject)) => (Some(since), Some(name), Some(version), Some(subject)),
        None => (None, None, None, None),
    };
    let rows = sqlx::query(
        "select * from (
             select distinct on (read_model, version, subject) read_model, version, subject, partition, position, reason,
                    causes, attempts, parked_at, count(*) over (partition by read_model, version, subject) as waiting
             from projection.parked where $1::text is null or read_model = $1
             order by read_model, version, subject, position) as subjects
         where $2::timestamptz is null or (parked_at, read_model, version, subject) > ($2, $3, $4, $5)
         order by parked_at, read_model, version, subject limit $6",
    )
    .bind(read_model)
    .bind(since)
    .bind(name)
    .bind(version)
    .bind(subject)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    let entry = |row: &PgRow| {
        Ok(ParkedEntry {
            read_model: row.try_get("read_model")?,
            version: row.try_get("version")?,
            parked: parked_subject(row)?,
        })
    };
    rows.iter().map(entry).collect()
}

/// The first parked subject of a read model after this one, by id.
pub async fn next_subject(pool: &PgPool, name: Name<'_>, after: Uuid) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select subject from projection.parked where read_model = $1 and version = $2 and subject > $3
         order by subject limit 1",
    )
    .bind(name.read_model)
    .bind(name.version)
    .bind(after)
    .fetch_optional(pool)
    .await
}

fn parked_subject(row: &PgRow) -> Result<ParkedSubject, sqlx::Error> {
    Ok(ParkedSubject {
        subject: row.try_get("subject")?,
        partition: row.try_get("partition")?,
        position: row.try_get("position")?,
        reason: row.try_get("reason")?,
        causes: row.try_get("causes")?,
        attempts: row.try_get("attempts")?,
        waiting: row.try_get("waiting")?,
        since: row.try_get("parked_at")?,
    })
}

/// The queue of one subject, in order.
pub async fn queue(
    connection: &mut PgConnection,
    name: Name<'_>,
    subject: Uuid,
    limit: i64,
) -> Result<Vec<Parked>, sqlx::Error> {
    let rows = sqlx::query(&format!(
        "select {COLUMNS} from projection.parked
         where read_model = $1 and version = $2 and subject = $3 order by position limit $4"
    ))
    .bind(name.read_model)
    .bind(name.version)
    .bind(subject)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(parked).collect()
}

fn parked(row: &PgRow) -> Result<Parked, sqlx::Error> {
    let header = Header {
        aggregate_type: row.try_get("aggregate_type")?,
        aggregate_id: row.try_get("aggregate_id")?,
        sequence: row.try_get("sequence")?,
        subject: row.try_get("subject")?,
        event_type: row.try_get("event_type")?,
        event_version: row.try_get("event_version")?,
        key_id: row.try_get("key_id")?,
        recorded_at: row.try_get("recorded_at")?,
        traceparent: row.try_get("traceparent")?,
    };
    Ok(Parked {
        event: SealedEvent {
            header,
            partition: row.try_get("partition")?,
            position: row.try_get("position")?,
            sealed: row.try_get("sealed")?,
        },
        reason: row.try_get("reason")?,
        attempts: row.try_get("attempts")?,
        parked_at: row.try_get("parked_at")?,
    })
}

/// The subjects of a partition that are parked. The caller holds the checkpoint's lock.
pub(crate) async fn subjects(
    tx: &mut PgConnection,
    name: Name<'_>,
    partition: i32,
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let subjects: Vec<Uuid> = sqlx::query_scalar(
        "select distinct subject from projection.parked where read_model = $1 and version = $2 and partition = $3",
    )
    .bind(name.read_model)
    .bind(name.version)
    .bind(partition)
    .fetch_all(tx)
    .await?;
    Ok(HashSet::from_iter(subjects))
}

/// Parks events and answers how many of the partition are parked now. The caller holds the checkpoint's lock.
pub(crate) async fn insert(
    tx: &mut PgConnection,
    name: Name<'_>,
    partition: i32,
    rows: &[Row<'_>],
) -> Result<i64, sqlx::Error> {
    for Row { event, reason, attempts } in rows {
        let header = &event.header;
        sqlx::query(&format!(
            "insert into projection.parked (read_model, version, {COLUMNS})
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, now())"
        ))
        .bind(name.read_model)
        .bind(name.version)
        .bind(partition)
        .bind(event.position)
        .bind(header.subject)
        .bind(&header.aggregate_type)
        .bind(header.aggregate_id)
        .bind(header.sequence)
        .bind(&header.event_type)
        .bind(&header.event_version)
        .bind(header.key_id)
        .bind(header.recorded_at)
        .bind(&header.traceparent)
        .bind(&event.sealed)
        .bind(&reason.code)
        .bind(i32::try_from(*attempts).unwrap_or(i32::MAX))
        .bind(&reason.causes)
        .execute(&mut *tx)
        .await?;
    }
    count_by(tx, name, partition, i64::try_from(rows.len()).unwrap_or(i64::MAX)).await
}

/// Takes a subject off the list and answers how many events that were.
pub(crate) async fn remove_subject(
    tx: &mut PgConnection,
    name: Name<'_>,
    partition: i32,
    subject: Uuid,
) -> Result<i64, sqlx::Error> {
    remove_until(tx, name, partition, subject, i64::MAX).await
}

/// Takes the events of a subject up to a position off the list and answers how many that were.
pub(crate) async fn remove_until(
    tx: &mut PgConnection,
    name: Name<'_>,
    partition: i32,
    subject: Uuid,
    position: i64,
) -> Result<i64, sqlx::Error> {
    let removed = sqlx::query(
        "delete from projection.parked
         where read_model = $1 and version = $2 and partition = $3 and subject = $4 and position <= $5",
    )
    .bind(name.read_model)
    .bind(name.version)
    .bind(partition)
    .bind(subject)
    .bind(position)
    .execute(&mut *tx)
    .await?;
    let removed = i64::try_from(removed.rows_affected()).unwrap_or(i64::MAX);
    if removed > 0 {
        count_by(tx, name, partition, -removed).await?;
    }
    Ok(removed)
}

/// Corrects the count that the checkpoint keeps.
pub(crate) async fn count_by(
    tx: &mut PgConnection,
    name: Name<'_>,
    partition: i32,
    change: i64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "update projection.checkpoints set parked = parked + $4
         where read_model = $1 and version = $2 and partition = $3 returning parked",
    )
    .bind(name.read_model)
    .bind(name.version)
    .bind(partition)
    .bind(change)
    .fetch_one(tx)
    .await
}
