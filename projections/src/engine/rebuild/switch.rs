//! Step 3: the consumers are held at a position, the new version is brought there, and one transaction changes who is served.

use std::time::Duration;

use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::fill::{Lanes, Positions};
use super::{RebuildError, Running, is_lock_timeout};
use crate::engine::checkpoint::Name;
use crate::engine::{migrate, notify, versions};

/// So many events can be applied while the consumers are held.
const HELD_EVENTS_MAX: i64 = 2_000;
/// How long the consumers may be held. Longer, and everybody goes on as before.
const HELD_MAX: Duration = Duration::from_secs(5);
/// A batch that is being applied is waited for so long.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '5s'";
const ATTEMPTS: u32 = 20;
/// Between two attempts the consumers get something done.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(200);

/// Holds a partition's checkpoint: whoever wants to move it waits.
const HOLD: &str = "
    select partition, position from projection.checkpoints where read_model = $1 and version = $2
    order by partition for update";

/// The old version is nobody's from now on: who still thinks that it owns a partition of it learns by the epoch.
const RETIRE: &str = "
    update projection.checkpoints set served = false, epoch = epoch + 1 where read_model = $1 and version = $2";

/// The new one is where the old one was, in the log and in the topic. It is one row short if it is not.
const HAND_OVER: &str = "
    update projection.checkpoints new
    set served = true, epoch = new.epoch + 1, kafka_offset = old.kafka_offset, kafka_position = old.kafka_position,
        updated_at = now()
    from projection.checkpoints old
    where old.read_model = $1 and old.version = $2 and new.read_model = $1 and new.version = $3
        and new.partition = old.partition and new.position = old.position";

const SERVE: &str = "
    with served as (update projection.versions set active_version = $2 where read_model = $1)
    update projection.schemas set served_at = coalesce(served_at, now()) where read_model = $1 and version = $2";

pub(super) async fn switch(running: &Running<'_>, stop: &CancellationToken) -> Result<(), RebuildError> {
    for _ in 0..ATTEMPTS {
        // Anew each time: an attempt that took too long was cut off, maybe between a commit and its answer.
        let mut lanes = running.lanes(stop).await?;
        // Outside of the lock, so that little is left inside.
        lanes.fill_until(running, &running.served_positions().await?, stop).await?;
        match tokio::time::timeout(HELD_MAX, attempt(running, &mut lanes, stop)).await {
            Ok(Ok(true)) => return publish(running).await,
            Ok(Ok(false)) => {}
            // It may have been cut off between its commit and the answer.
            Err(_) if is_served(running).await? => return publish(running).await,
            Err(_) => {}
            Ok(Err(RebuildError::Database(error))) if is_lock_timeout(&error) => {}
            Ok(Err(error)) => return Err(error),
        }
        let pause = stop.run_until_cancelled(tokio::time::sleep(ATTEMPT_INTERVAL)).await;
        pause.ok_or(RebuildError::Stopped)?;
    }
    Err(RebuildError::NotHeld)
}

/// False if too much would have to be done while the consumers wait.
async fn attempt(running: &Running<'_>, lanes: &mut Lanes, stop: &CancellationToken) -> Result<bool, RebuildError> {
    let (old, new) = (running.served, running.target.name);
    let mut tx = running.rebuild.pool.begin().await?;
    sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut *tx).await?;
    let held: Vec<(i32, i64)> = sqlx::query_as(HOLD).bind(old.read_model).bind(old.version).fetch_all(&mut *tx).await?;
    let held = Positions::from_iter(held);
    if lanes.left_to(&held) > HELD_EVENTS_MAX {
        return Ok(false);
    }
    lanes.fill_until(running, &held, stop).await?;
    if hand_over(&mut tx, old, new).await? != held.len() as u64 {
        return Err(RebuildError::TakenOver);
    }
    tx.commit().await?;
    Ok(true)
}

async fn is_served(running: &Running<'_>) -> Result<bool, RebuildError> {
    let mut connection = running.rebuild.pool.acquire().await?;
    let active = versions::active(&mut connection, running.rebuild.name()).await?;
    Ok(active == Some(running.version()))
}

/// Answers how many partitions have changed hands.
async fn hand_over(tx: &mut PgConnection, old: Name<'_>, new: Name<'_>) -> Result<u64, sqlx::Error> {
    sqlx::query(RETIRE).bind(old.read_model).bind(old.version).execute(&mut *tx).await?;
    let handed = sqlx::query(HAND_OVER).bind(old.read_model).bind(old.version).bind(new.version).execute(&mut *tx);
    let handed = handed.await?.rows_affected();
    sqlx::query(SERVE).bind(new.read_model).bind(new.version).execute(&mut *tx).await?;
    for channel in [versions::CHANNEL, notify::CHANNEL] {
        sqlx::query("select pg_notify($1, '')").bind(channel).execute(&mut *tx).await?;
    }
    Ok(handed)
}

/// For analysts. Apart from the switch, because it waits for their queries; until then they see the version before.
async fn publish(running: &Running<'_>) -> Result<(), RebuildError> {
    let mut tx = running.rebuild.pool.begin().await?;
    migrate::publish(&mut tx, running.rebuild.fold.model.as_ref(), running.version()).await?;
    tx.commit().await?;
    Ok(())
}
