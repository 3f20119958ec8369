//! Reads of the log: rows as they are stored, in order.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Row};
use uuid::Uuid;

use crate::envelope;
use crate::error::Error;
use crate::event::{Header, Opened, SealedEvent, StoredEvent};
use crate::keyring::{Keyring, named_key};

/// A read stops before it holds more sealed bytes than this, however many events were asked for.
const RANGE_BYTES_MAX: i64 = 8 * 1024 * 1024;

/// The columns of an event, in the order every read of ours uses.
pub(crate) const COLUMNS: &str = "partition, position, aggregate_type, aggregate_id, sequence, subject, event_type, event_version, key_id, recorded_at, traceparent, sealed";

/// Reads the log in order, for the projector's gap filling, audits and tests. Holds no keys.
#[derive(Clone)]
pub struct LogReader {
    pool: PgPool,
}

impl LogReader {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The events of a partition after a position, in order: at most `limit`, fewer when they are large. Only an
    /// empty answer means that there are no more.
    pub async fn range(&self, partition: i32, after: i64, limit: i64) -> Result<Vec<SealedEvent>, Error> {
        let rows = sqlx::query(&format!(
            "select {COLUMNS}
             from (select *, sum(octet_length(sealed)) over (order by position) - octet_length(sealed) as bytes_before
                   from events where partition = $1 and position > $2 order by position limit $3) as next
             where bytes_before < $4 order by position",
        ))
        .bind(partition)
        .bind(after)
        .bind(limit)
        .bind(RANGE_BYTES_MAX)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read_event).collect()
    }
}

impl LogReader {
    /// The events of a subject after a position and up to another, in order: at most `limit`, and none from a subject that
    /// has none.
    pub async fn of_subject(
        &self,
        subject: Uuid,
        after: i64,
        until: i64,
        limit: i64,
    ) -> Result<Vec<SealedEvent>, Error> {
        let rows = sqlx::query(&format!(
            "select {COLUMNS} from events where subject = $1 and position > $2 and position <= $3
             order by position limit $4",
        ))
        .bind(subject)
        .bind(after)
        .bind(until)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read_event).collect()
    }
}

/// The events of one stream after a sequence, in order.
pub(crate) async fn stream(
    pool: &PgPool,
    aggregate_type: &str,
    aggregate_id: Uuid,
    after: i64,
) -> Result<Vec<SealedEvent>, Error> {
    let rows = sqlx::query(&format!(
        "select {COLUMNS} from events
         where aggregate_type = $1 and aggregate_id = $2 and sequence > $3 order by sequence",
    ))
    .bind(aggregate_type)
    .bind(aggregate_id.to_string())
    .bind(after)
    .fetch_all(pool)
    .await?;
    rows.iter().map(read_event).collect()
}

/// The events of many streams, each in order.
pub(crate) async fn streams(on: impl PgExecutor<'_>, ids: &[(String, Uuid)]) -> Result<Vec<SealedEvent>, Error> {
    let (types, ids): (Vec<_>, Vec<_>) = ids.iter().map(|(kind, id)| (kind.as_str(), id.to_string())).unzip();
    let rows = sqlx::query(&format!(
        "select {COLUMNS}
         from (select distinct * from unnest($1::text[], $2::text[]) as asked (type, id)) as asked
         join events on aggregate_type = asked.type and aggregate_id = asked.id
         order by aggregate_type, aggregate_id, sequence",
    ))
    .bind(types)
    .bind(ids)
    .fetch_all(on)
    .await?;
    rows.iter().map(read_event).collect()
}

/// The events of one type of a subject in the order of the log, and the head of its partition at that moment.
/// One statement, so that both come from one snapshot.
pub(crate) async fn subject_streams(
    pool: &PgPool,
    partition: i32,
    subject: Uuid,
    aggregate_type: &str,
) -> Result<(Vec<SealedEvent>, i64), Error> {
    let rows = sqlx::query(&format!(
        "select head.position as head, {columns}
         from heads head
         left join events e on e.subject = $2 and e.aggregate_type = $3 and e.partition = head.partition
         where head.partition = $1 order by e.position",
        columns = COLUMNS.split(", ").map(|column| format!("e.{column}")).collect::<Vec<_>>().join(", "),
    ))
    .bind(partition)
    .bind(subject)
    .bind(aggregate_type)
    .fetch_all(pool)
    .await?;
    let head = rows.first().map_or(Ok(0), |row| row.try_get("head"))?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        // The left join's lone row of a subject without any.
        if row.try_get::<Option<i64>, _>("position")?.is_some() {
            events.push(read_event(row)?);
        }
    }
    Ok((events, head))
}

/// Whether a subject has events of these types beyond a position: one look into an index.
pub(crate) async fn has_moved(
    pool: &PgPool,
    subject: Uuid,
    aggregate_types: &[&str],
    position: i64,
) -> Result<bool, Error> {
    let moved = sqlx::query_scalar(
        "select exists (select from events where subject = $1 and aggregate_type = any($2) and position > $3)",
    );
    Ok(moved.bind(subject).bind(aggregate_types).bind(position).fetch_one(pool).await?)
}

/// Opens events of any number of subjects, with one round trip for the keys that are not at hand.
pub(crate) async fn open_all(keyring: &Keyring, events: Vec<SealedEvent>) -> Result<Vec<StoredEvent>, Error> {
    let keys = keyring.keys_of(events.iter().map(|event| &event.header)).await;
    events.into_iter().map(|event| open(&keys, event)).collect()
}

/// The same without the events of erased subjects, which nobody can open.
pub(crate) async fn open_what_is_left(keyring: &Keyring, events: Vec<SealedEvent>) -> Result<Vec<StoredEvent>, Error> {
    let keys = keyring.keys_of(events.iter().map(|event| &event.header)).await;
    let is_erased = |event: &SealedEvent| matches!(keys.get(&event.header.subject), Some(Err(crate::KeyError::Erased)));
    events.into_iter().filter(|event| !is_erased(event)).map(|event| open(&keys, event)).collect()
}

type Keys = HashMap<Uuid, Result<crate::SubjectKey, crate::KeyError>>;

fn open(keys: &Keys, event: SealedEvent) -> Result<StoredEvent, Error> {
    let subject = event.header.subject;
    let key = keys.get(&subject).cloned().unwrap_or(Err(crate::KeyError::Unavailable));
    let key = named_key(&event.header, key).map_err(|source| Error::Key { subject, source })?;
    let opened = envelope::open_event(&key, &event).map_err(|source| Error::Envelope {
        aggregate_type: event.header.aggregate_type.clone(),
        aggregate_id: event.header.aggregate_id,
        sequence: event.header.sequence,
        source,
    })?;
    let SealedEvent { header, partition, position, .. } = event;
    let Opened { payload, metadata, source } = opened;
    Ok(StoredEvent { header, partition, position, payload, metadata, source })
}

/// A row with [`COLUMNS`] as an event.
pub(crate) fn read_event(row: &PgRow) -> Result<SealedEvent, Error> {
    Ok(read_row(row)?)
}

fn read_row(row: &PgRow) -> Result<SealedEvent, sqlx::Error> {
    let aggregate_id: &str = row.try_get("aggregate_id")?;
    let header = Header {
        aggregate_type: row.try_get("aggregate_type")?,
        aggregate_id: aggregate_id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        sequence: row.try_get("sequence")?,
        subject: row.try_get("subject")?,
        event_type: row.try_get("event_type")?,
        event_version: row.try_get("event_version")?,
        key_id: row.try_get("key_id")?,
        recorded_at: row.try_get("recorded_at")?,
        traceparent: row.try_get("traceparent")?,
    };
    Ok(SealedEvent {
        header,
        partition: row.try_get("partition")?,
        position: row.try_get("position")?,
        sealed: row.try_get("sealed")?,
    })
}
