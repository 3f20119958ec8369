//! A new generation key: new subject keys are wrapped by it at once, those that exist one batch after the other.

use std::time::Duration;

use serde::Serialize;
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::generations::generation_name;
use super::super::store::{KeyStore, key_name};
use super::super::{MasterKey, watch, wrap};
use crate::error::Error;

/// How fast subject keys are wrapped anew.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Keys per transaction.
    pub batch: u32,
    /// Keys per second, on average, at most.
    pub keys_per_second: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { batch: 500, keys_per_second: 5_000 }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Rewrapped {
    pub keys: u64,
    /// How many there were to do when it began.
    pub of: u64,
}

/// What a rotation of the generation did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerationRotation {
    /// The generation that wraps all subject keys now.
    pub generation: i32,
    /// Whether this finished what an earlier rotation had begun, instead of beginning another generation.
    pub resumed: bool,
    /// Subject keys that were wrapped anew.
    pub rewrapped: u64,
    /// Subject keys that are still under an older generation: they can't be unwrapped.
    pub left_behind: u64,
}

/// How often a batch is tried that has met another transaction on its rows.
const BATCH_ATTEMPTS_MAX: usize = 5;
/// How often all keys are walked over at most; the second time finds what was made during the first.
const SWEEPS_MAX: usize = 4;
/// Until then every process that reaches the store wraps under the new generation.
const LEARNED_AFTER: Duration = watch::POLL.saturating_mul(3);

/// Begins a new generation and wraps every subject key under it. If keys are left under an older generation, a rotation
/// was interrupted: then that one is finished, and none is begun.
pub async fn generation(
    pool: &PgPool,
    master: &MasterKey,
    pace: Pace,
    mut progress: impl FnMut(Rewrapped),
) -> Result<GenerationRotation, Error> {
    let (store, _) = KeyStore::connect(pool.clone(), master).await?;
    let newest = store.generations.newest().ok_or(Error::Unavailable(None))?;
    let mut done = Rewrapped { keys: 0, of: count_before(pool, newest).await? };
    if done.of > 0 {
        settle(&store, newest, pace, &mut done, &mut progress).await?;
        // What can't be unwrapped stays behind, and must not stand in the way of a new generation.
        if done.keys > 0 {
            return rotated(pool, newest, true, done).await;
        }
    }
    let next = begin(&store, master, newest + 1).await?;
    done.of = count_before(pool, next).await?;
    settle(&store, next, pace, &mut done, &mut progress).await?;
    rotated(pool, next, false, done).await
}

async fn rotated(pool: &PgPool, generation: i32, resumed: bool, done: Rewrapped) -> Result<GenerationRotation, Error> {
    let left_behind = count_before(pool, generation).await?;
    Ok(GenerationRotation { generation, resumed, rewrapped: done.keys, left_behind })
}

/// Walks over all keys, and again for those that came under an older generation meanwhile.
async fn settle(
    store: &KeyStore,
    generation: i32,
    pace: Pace,
    done: &mut Rewrapped,
    progress: &mut impl FnMut(Rewrapped),
) -> Result<(), Error> {
    for _ in 0..SWEEPS_MAX {
        sweep(store, generation, pace, done, progress).await?;
        // A process that has not heard of the generation yet may still be adding keys under the old one.
        tokio::time::sleep(LEARNED_AFTER).await;
        if count_before(&store.pool, generation).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Makes the key of a generation. If somebody else has just done so, theirs counts.
async fn begin(store: &KeyStore, master: &MasterKey, generation: i32) -> Result<i32, Error> {
    let wrapped = master.wrap(&generation_name(generation), &wrap::random_key()).await?;
    sqlx::query("insert into generations (id, wrapped, master) values ($1, $2, $3) on conflict (id) do nothing")
        .bind(generation)
        .bind(&wrapped.bytes)
        .bind(&wrapped.by)
        .execute(&store.pool)
        .await?;
    store.generations.learn().await?;
    store.generations.newest().ok_or(Error::Unavailable(None))
}

async fn count_before(pool: &PgPool, generation: i32) -> Result<u64, Error> {
    let count: i64 = sqlx::query_scalar("select count(*) from subject_keys where generation < $1 and state = 'active'")
        .bind(generation)
        .fetch_one(pool)
        .await?;
    Ok(count.unsigned_abs())
}

/// One walk over all keys, in the order of their ids.
async fn sweep(
    store: &KeyStore,
    generation: i32,
    pace: Pace,
    done: &mut Rewrapped,
    progress: &mut impl FnMut(Rewrapped),
) -> Result<(), Error> {
    let mut after = Uuid::nil();
    loop {
        let started = Instant::now();
        let Some((last, rewrapped)) = persistently(store, generation, pace.batch, after).await? else { return Ok(()) };
        after = last;
        done.keys += rewrapped;
        progress(*done);
        let slowest = Duration::from_secs_f64(f64::from(pace.batch) / f64::from(pace.keys_per_second.max(1)));
        tokio::time::sleep_until(started + slowest).await;
    }
}

async fn persistently(
    store: &KeyStore,
    generation: i32,
    batch: u32,
    after: Uuid,
) -> Result<Option<(Uuid, u64)>, Error> {
    let mut attempts = 1;
    loop {
        match rewrap_batch(store, generation, batch, after).await {
            // An erasure or a rotation of one of these subjects took the same rows in another order.
            Err(BatchError::Database(error)) if attempts < BATCH_ATTEMPTS_MAX && is_deadlock(&error) => attempts += 1,
            Err(BatchError::Database(error)) => return Err(error.into()),
            Err(BatchError::Other(error)) => return Err(error),
            Ok(done) => return Ok(done),
        }
    }
}

fn is_deadlock(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "40P01")
}

enum BatchError {
    Database(sqlx::Error),
    Other(Error),
}

impl From<sqlx::Error> for BatchError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// Wraps the next keys anew; the last id that was looked at and how many were changed. A key that is erased meanwhile
/// stays erased.
async fn rewrap_batch(
    store: &KeyStore,
    generation: i32,
    batch: u32,
    after: Uuid,
) -> Result<Option<(Uuid, u64)>, BatchError> {
    let rows: Vec<(Uuid, Uuid, i32, Vec<u8>)> = sqlx::query_as(
        "select key_id, subject, generation, wrapped from subject_keys
         where key_id > $1 and generation < $2 and state = 'active' order by key_id limit $3",
    )
    .bind(after)
    .bind(generation)
    .bind(i64::from(batch))
    .fetch_all(&store.pool)
    .await?;
    let Some((last, ..)) = rows.last() else { return Ok(None) };
    store.generations.reserve(generation, rows.len()).await.map_err(BatchError::Other)?;
    let (mut ids, mut before, mut wrapped) = (Vec::new(), Vec::new(), Vec::new());
    for (id, subject, old_generation, old) in &rows {
        let key = store.generations.unwrap(*old_generation, &key_name(*subject, *id, *old_generation), old);
        let new = key.and_then(|key| store.generations.wrap(generation, &key_name(*subject, *id, generation), &key));
        let Some(new) = new else {
            // One damaged row must not keep all others from a new generation.
            tracing::error!(key.id = %id, "a stored key can't be unwrapped; it stays as it is");
            continue;
        };
        ids.push(*id);
        before.push(*old_generation);
        wrapped.push(new);
    }
    let changed = sqlx::query(
        "update subject_keys kept set generation = $4, wrapped = new.wrapped
         from unnest($1::uuid[], $2::int[], $3::bytea[]) as new (key_id, generation, wrapped)
         where kept.key_id = new.key_id and kept.generation = new.generation and kept.state = 'active'",
    )
    .bind(&ids)
    .bind(&before)
    .bind(&wrapped)
    .bind(generation)
    .execute(&store.pool)
    .await?;
    Ok(Some((*last, changed.rows_affected())))
}
