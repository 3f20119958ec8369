//! How far the read models are, for the query door: lag, and waiting until a write has been seen.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgPool};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::checkpoint::Name;
use super::notify::{CHANNEL, Ear};
use crate::read_model::Log;

/// How often the checkpoints are read while somebody waits and no notification comes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long after a failure the next try.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Where a partition of a read model's active version stands.
#[derive(Clone, Debug, PartialEq, FromRow, serde::Serialize)]
pub struct Lag {
    pub read_model: String,
    pub version: i32,
    pub partition: i32,
    /// The last position applied.
    pub position: i64,
    /// The newest position that any consumer has seen in Kafka.
    pub head: i64,
    /// Events between the two.
    pub lag: i64,
    pub parked: i64,
    pub updated_at: DateTime<Utc>,
}

/// The lag of every read model and partition. The head is what the busiest consumer knows, so a read model whose own
/// consumer is down shows its lag as long as another one runs.
pub async fn lag(pool: &PgPool) -> Result<Vec<Lag>, sqlx::Error> {
    sqlx::query_as(
        "with known as (
             select log, partition, max(position) as head from
                 (select log, partition, position from projection.checkpoints join projection.versions using (read_model)
                  union all select log, partition, position from projection.heads) as seen
             group by log, partition)
         select read_model, version, partition, position, head, head - position as lag, parked, updated_at
         from projection.checkpoints join projection.versions using (read_model) join known using (log, partition)
         where version = active_version order by read_model, partition",
    )
    .fetch_all(pool)
    .await
}

/// Where a partition ends, as the owner of its lane reckons.
pub(crate) struct Head {
    pub(crate) partition: i32,
    pub(crate) position: i64,
    /// The owner has read to the end, so it knows the position. Before that it counts records, and not each is an event:
    /// some are repetitions.
    pub(crate) level: bool,
}

/// Remembers the newest positions seen in Kafka: who is level knows, the others can only raise what is known. A failure
/// costs a lag figure and nothing else.
pub(crate) async fn note_heads(pool: &PgPool, log: Log, heads: &[Head]) {
    let noted = sqlx::query(
        "insert into projection.heads as known (log, partition, position)
         select $4, * from unnest($1::integer[], $2::bigint[]) order by 2
         on conflict (log, partition) do update set position = excluded.position, seen_at = now()
         where known.position < excluded.position
             or (known.position > excluded.position and excluded.partition = any($3::integer[]))",
    )
    .bind(heads.iter().map(|head| head.partition).collect::<Vec<_>>())
    .bind(heads.iter().map(|head| head.position).collect::<Vec<_>>())
    .bind(heads.iter().filter(|head| head.level).map(|head| head.partition).collect::<Vec<_>>())
    .bind(log.as_str())
    .execute(pool)
    .await;
    if noted.is_err() {
        tracing::debug!("heads were not noted");
    }
}

/// Lets thousands wait for positions with one connection: one listener reads the checkpoints, each waiter is woken when
/// its own position is reached. Cheap to clone.
#[derive(Clone)]
pub struct Watcher(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Somebody began to wait.
    wanted: Notify,
    /// Told whenever any checkpoint has moved.
    moved: watch::Sender<()>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    positions: HashMap<Place, i64>,
    waiting: HashMap<Place, BTreeMap<i64, Vec<oneshot::Sender<()>>>>,
}

/// A partition of a version of a read model.
type Place = (String, i32, i32);

impl Watcher {
    /// Starts watching.
    pub fn start(pool: PgPool) -> Self {
        let inner = Arc::new(Inner {
            state: Mutex::default(),
            wanted: Notify::new(),
            moved: watch::Sender::new(()),
            task: Mutex::new(None),
        });
        let watched = Arc::downgrade(&inner);
        let task = tokio::spawn(async move {
            let mut ear = Ear::new(CHANNEL);
            while let Some(inner) = watched.upgrade() {
                inner.turn(&pool, &mut ear).await;
            }
        });
        *inner.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Self(inner)
    }

    /// Waits until a version of a read model has applied these positions; false if that did not happen in time.
    pub async fn wait_for(&self, name: Name<'_>, positions: &[(i32, i64)], within: Duration) -> bool {
        let deadline = Instant::now() + within;
        for (partition, position) in positions {
            let place = (name.read_model.to_owned(), name.version, *partition);
            let Some(reached) = self.0.register(place, *position) else { continue };
            self.0.wanted.notify_one();
            if !matches!(tokio::time::timeout_at(deadline, reached).await, Ok(Ok(()))) {
                return false;
            }
        }
        true
    }

    /// Follows the checkpoints for as long as the follower lives.
    pub(crate) fn follow(&self) -> Follower {
        let follower = Follower { moved: self.0.moved.subscribe(), watcher: self.clone() };
        self.0.wanted.notify_one();
        follower
    }
}

/// Is woken whenever checkpoints have moved, whoever's they are.
pub(crate) struct Follower {
    moved: watch::Receiver<()>,
    watcher: Watcher,
}

impl Follower {
    /// Waits for a movement since the last call.
    pub(crate) async fn moved(&mut self) {
        // The sender lives in the watcher, which is held here.
        if self.moved.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How far a version of a read model is known to be, by partition.
    pub(crate) fn positions(&self, name: Name<'_>) -> HashMap<i32, i64> {
        let state = self.watcher.0.state();
        let of_name = state
            .positions
            .iter()
            .filter(|((read_model, version, _), _)| (read_model.as_str(), *version) == (name.read_model, name.version));
        of_name.map(|((_, _, partition), position)| (*partition, *position)).collect()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_wanted(&self) -> bool {
        self.moved.receiver_count() > 0 || self.state().has_waiting()
    }

    /// Nothing if the position is known to be reached.
    fn register(&self, place: Place, position: i64) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state();
        if state.positions.get(&place).is_some_and(|reached| *reached >= position) {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        state.waiting.entry(place).or_default().entry(position).or_default().push(sender);
        Some(receiver)
    }

    /// Reads the checkpoints once, when there is a reason to.
    async fn turn(&self, pool: &PgPool, ear: &mut Ear) {
        if !self.is_wanted() {
            self.wanted.notified().await;
        }
        match read(pool).await {
            Ok(positions) => {
                let moved = self.state().reached(positions);
                self.moved.send_if_modified(|()| moved);
            }
            Err(_) => {
                tracing::warn!("the checkpoints can't be read");
                return tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
        if self.is_wanted() {
            ear.wait(pool, POLL_INTERVAL).await;
        }
    }
}

impl State {
    /// Whether anybody still waits; those who gave up are forgotten.
    fn has_waiting(&mut self) -> bool {
        self.waiting.retain(|_, by_position| {
            by_position.retain(|_, waiters| {
                waiters.retain(|waiter| !waiter.is_closed());
                !waiters.is_empty()
            });
            !by_position.is_empty()
        });
        !self.waiting.is_empty()
    }

    /// Wakes who waited for these positions; whether any is new.
    fn reached(&mut self, positions: HashMap<Place, i64>) -> bool {
        for (place, by_position) in &mut self.waiting {
            let reached = positions.get(place).copied().unwrap_or(0);
            let later = by_position.split_off(&(reached + 1));
            for waiter in std::mem::replace(by_position, later).into_values().flatten() {
                if waiter.send(()).is_err() {
                    tracing::trace!("a waiter gave up before its position was reached");
                }
            }
        }
        let moved = self.positions != positions;
        self.positions = positions;
        moved
    }
}

async fn read(pool: &PgPool) -> Result<HashMap<Place, i64>, sqlx::Error> {
    let rows: Vec<(String, i32, i32, i64)> =
        sqlx::query_as("select read_model, version, partition, position from projection.checkpoints")
            .fetch_all(pool)
            .await?;
    let place = |(read_model, version, partition, position)| ((read_model, version, partition), position);
    Ok(rows.into_iter().map(place).collect())
}
