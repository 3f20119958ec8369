//! Step 1: events from the event store into the tables of the new version, partitions side by side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use super::{RebuildError, Running};
use crate::engine::backoff::Backoff;
use crate::engine::checkpoint::{self, Name, Ownership};
use crate::engine::metrics;
use crate::engine::partition::{Halt, Partition};

/// Events of one transaction at most.
const BATCH_EVENTS_MAX: i64 = 1_000;
/// The first transaction has so many, and none has fewer.
const BATCH_EVENTS_MIN: i64 = 20;
/// How long a transaction of a rebuild that rests may take: a long one holds up what others do meanwhile, however long the
/// rest after it.
const SLICE: Duration = Duration::from_millis(20);
/// When so few events are left, the rest can be done while the consumers are held.
const LITTLE: i64 = 500;
/// How often progress is told.
const TELL_INTERVAL: Duration = Duration::from_millis(500);

/// How much of the machine a rebuild may take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Partitions that are filled at a time, each with a connection of its own.
    pub jobs: u32,
    /// Of the time, how many percent each of them works; it rests for the others.
    pub share: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { jobs: 2, share: 50 }
    }
}

/// How far the filling is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Events applied, those of earlier runs among them.
    pub applied: i64,
    /// Events that the served version has applied, which is how far the filling goes.
    pub target: i64,
    /// Events a second in this run.
    pub rate: f64,
    /// How long it takes at this rate; nothing as long as there is none.
    pub left: Option<Duration>,
}

/// How far each partition is.
pub(super) type Positions = BTreeMap<i32, i64>;

/// Partitions, taken over and ready to be filled.
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    applied: Arc<AtomicI64>,
}

struct Lane {
    number: i32,
    partition: Partition,
}

impl Running<'_> {
    /// Fills until little is left to the position of the served version, which moves on meanwhile.
    pub async fn fill(&self, stop: &CancellationToken, mut tell: impl FnMut(Progress)) -> Result<(), RebuildError> {
        let mut lanes = self.lanes(stop).await?;
        let (started, before) = (Instant::now(), lanes.total());
        loop {
            let until = self.served_positions().await?;
            if lanes.left_to(&until) <= LITTLE {
                tell(progress(&lanes.applied, &until, before, started));
                return Ok(());
            }
            let applied = lanes.applied.clone();
            let mut ticks = tokio::time::interval(TELL_INTERVAL);
            let filling = lanes.fill_until(self, &until, stop);
            tokio::pin!(filling);
            loop {
                tokio::select! {
                    filled = &mut filling => break filled?,
                    _ = ticks.tick() => tell(progress(&applied, &until, before, started)),
                }
            }
        }
    }

    /// Where the served version stands.
    pub(super) async fn served_positions(&self) -> Result<Positions, sqlx::Error> {
        positions(&self.rebuild.pool, self.served).await
    }

    /// Takes over every partition that the served version has.
    pub(super) async fn lanes(&self, stop: &CancellationToken) -> Result<Lanes, RebuildError> {
        let partitions: Vec<i32> = self.served_positions().await?.into_keys().collect();
        let target = &self.target;
        let taken = checkpoint::take(&target.pool, target.name, target.purpose, &partitions, &self.host.owner).await?;
        if taken.len() != partitions.len() {
            return Err(RebuildError::TakenOver);
        }
        let applied = Arc::new(AtomicI64::new(taken.iter().map(|(_, owned)| owned.position).sum()));
        let lane = |(number, owned): (i32, Ownership)| {
            let progress = Arc::new(metrics::Progress::new(owned.position, 0));
            let partition = Partition::new(self.host.clone(), target.clone(), number, owned, progress, stop.clone());
            Lane { number, partition }
        };
        Ok(Lanes { lanes: taken.into_iter().map(lane).collect(), applied })
    }
}

impl Lanes {
    fn total(&self) -> i64 {
        self.applied.load(Ordering::Relaxed)
    }

    /// Events between here and there.
    pub(super) fn left_to(&self, until: &Positions) -> i64 {
        let left = |lane: &Lane| until.get(&lane.number).map_or(0, |until| until - lane.partition.position());
        self.lanes.iter().map(left).sum()
    }

    /// Applies everything up to these positions and nothing beyond.
    pub(super) async fn fill_until(
        &mut self,
        running: &Running<'_>,
        until: &Positions,
        stop: &CancellationToken,
    ) -> Result<(), RebuildError> {
        let Self { lanes, applied } = self;
        let jobs = running.rebuild.pace.jobs as usize;
        let mut filling = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let until = until.get(&lane.number).copied().unwrap_or(0);
            filling.push(lane.fill_until(running, until, applied, stop));
        }
        stream::iter(filling).buffer_unordered(jobs).try_collect().await
    }
}

impl Lane {
    async fn fill_until(
        &mut self,
        running: &Running<'_>,
        until: i64,
        applied: &AtomicI64,
        stop: &CancellationToken,
    ) -> Result<(), RebuildError> {
        let mut backoff = Backoff::new(&running.host.limits);
        let share = running.rebuild.pace.share;
        let mut batch = if share == 100 { BATCH_EVENTS_MAX } else { BATCH_EVENTS_MIN };
        while self.partition.position() < until {
            let (started, before) = (Instant::now(), self.partition.position());
            let limit = batch.min(until - before);
            match running.host.log.range(self.number, before, limit).await {
                Ok(events) if !events.is_empty() => self.partition.apply_stored(events).await.map_err(why)?,
                // The event store is away, or behind the read model: it comes back, or its tail does.
                Ok(_) | Err(_) => {
                    tracing::warn!(partition = self.number, position = before, "the event store has no next event yet");
                    if !backoff.wait(stop).await {
                        return Err(RebuildError::Stopped);
                    }
                    continue;
                }
            }
            backoff.reset();
            applied.fetch_add(self.partition.position() - before, Ordering::Relaxed);
            if share < 100 {
                let took = started.elapsed();
                batch = next_batch(batch, took);
                let rest = took * (100 - share) / share;
                stop.run_until_cancelled(tokio::time::sleep(rest)).await.ok_or(RebuildError::Stopped)?;
            }
        }
        Ok(())
    }
}

/// After a batch that took so long: twice as many as fit, half as many as did not.
fn next_batch(batch: i64, took: Duration) -> i64 {
    let next = if took < SLICE { batch * 2 } else { batch / 2 };
    next.clamp(BATCH_EVENTS_MIN, BATCH_EVENTS_MAX)
}

fn why(halt: Halt) -> RebuildError {
    match halt {
        Halt::Stopped => RebuildError::Stopped,
        Halt::Lost | Halt::Retired => RebuildError::TakenOver,
    }
}

fn progress(applied: &AtomicI64, until: &Positions, before: i64, started: Instant) -> Progress {
    let (applied, target): (i64, i64) = (applied.load(Ordering::Relaxed), until.values().sum());
    let rate = (applied - before) as f64 / started.elapsed().as_secs_f64().max(0.001);
    let left = (rate > 0.0).then(|| Duration::from_secs_f64((target - applied).max(0) as f64 / rate));
    Progress { applied, target, rate, left }
}

/// The positions of a version.
pub(super) async fn positions(on: impl sqlx::PgExecutor<'_>, name: Name<'_>) -> Result<Positions, sqlx::Error> {
    let rows: Vec<(i32, i64)> =
        sqlx::query_as("select partition, position from projection.checkpoints where read_model = $1 and version = $2")
            .bind(name.read_model)
            .bind(name.version)
            .fetch_all(on)
            .await?;
    Ok(rows.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_grow_to_fill_a_slice_and_no_further() {
        let quick = |batch, _| next_batch(batch, SLICE / 2);
        let slow = |batch, _| next_batch(batch, SLICE * 2);
        assert_eq!(next_batch(100, SLICE / 2), 200);
        assert_eq!(next_batch(100, SLICE * 2), 50);
        assert_eq!((0..20).fold(BATCH_EVENTS_MIN, quick), BATCH_EVENTS_MAX);
        assert_eq!((0..20).fold(BATCH_EVENTS_MAX, slow), BATCH_EVENTS_MIN);
    }
}
