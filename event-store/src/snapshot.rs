//! Sealed states of long streams. A shortcut only: without them everything still loads, from the first event.

use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::error::Error;
use crate::keyring::SubjectKey;

/// A stream is worth a new snapshot every so many events.
pub const SNAPSHOT_EVERY: i64 = 200;

pub(crate) async fn save(
    pool: &PgPool,
    key: &SubjectKey,
    stream: (&str, Uuid),
    sequence: i64,
    state: &[u8],
) -> Result<(), Error> {
    let sealed = crate::envelope::seal_row(key, &context(stream, sequence), state);
    sqlx::query(
        // Once its subject is erased, none is kept: the erasure has looked here.
        "insert into snapshots as kept (aggregate_type, aggregate_id, sequence, key_id, sealed)
         select $1, $2, $3, $4, $5
         where not exists (select from events where subject = $6 and event_type = 'Patient.Erased')
         on conflict (aggregate_id, aggregate_type) do update
         set sequence = excluded.sequence, key_id = excluded.key_id, sealed = excluded.sealed
         where kept.sequence < excluded.sequence",
    )
    .bind(stream.0)
    .bind(stream.1.to_string())
    .bind(sequence)
    .bind(key.id())
    .bind(sealed)
    .bind(key.subject())
    .execute(pool)
    .await?;
    Ok(())
}

/// The latest snapshot. One that does not open is as good as none: the events are the truth.
pub(crate) async fn load(
    pool: &PgPool,
    key: &SubjectKey,
    stream: (&str, Uuid),
) -> Result<Option<(i64, Vec<u8>)>, Error> {
    let Some((sequence, sealed)) = find(pool, stream).await? else { return Ok(None) };
    Ok(open(key, stream, sequence, &sealed).map(|state| (sequence, state)))
}

/// The latest snapshot as it is stored, and its sequence.
pub(crate) async fn find(pool: &PgPool, stream: (&str, Uuid)) -> Result<Option<(i64, Vec<u8>)>, Error> {
    let row = sqlx::query("select sequence, sealed from snapshots where aggregate_type = $1 and aggregate_id = $2")
        .bind(stream.0)
        .bind(stream.1.to_string())
        .fetch_optional(pool)
        .await?;
    row.map(|row| Ok((row.try_get("sequence")?, row.try_get("sealed")?))).transpose()
}

/// The state in a snapshot, if it opens.
pub(crate) fn open(key: &SubjectKey, stream: (&str, Uuid), sequence: i64, sealed: &[u8]) -> Option<Vec<u8>> {
    match crate::envelope::open_row(key, &context(stream, sequence), sealed) {
        Ok(state) => Some(state),
        Err(error) => {
            tracing::warn!(
                aggregate.r#type = stream.0,
                error = &error as &dyn std::error::Error,
                "a snapshot does not open"
            );
            None
        }
    }
}

fn context((aggregate_type, aggregate_id): (&str, Uuid), sequence: i64) -> String {
    format!("snapshot/{aggregate_type}/{aggregate_id}/{sequence}")
}
