//! One task that wakes the feeds: it follows the timeline's checkpoints, and asks once for all of them whose timelines have
//! changed. Nobody listening, nothing asked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::engine::{Follower, Watcher};
use crate::query_api::served::ServedVersions;
use crate::timeline;

/// Rounds that a feed may be behind before it just looks for itself.
const ROUNDS_MAX: usize = 64;
/// How long after a failure the next try, and how often it is noticed that nobody listens any more.
const PAUSE: Duration = Duration::from_secs(1);

/// Whose timelines have changed; nothing if that is not known, and everybody must look.
type Round = Option<Arc<HashSet<Uuid>>>;

/// Owns the task.
pub(crate) struct Hub {
    rounds: broadcast::Sender<Round>,
    wanted: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What wakes one feed.
pub(crate) struct Woken(broadcast::Receiver<Round>);

impl Woken {
    /// Waits until the patient's timeline may have changed.
    pub(crate) async fn of(&mut self, patient: Uuid) {
        loop {
            match self.0.recv().await {
                Ok(Some(changed)) if !changed.contains(&patient) => {}
                // Rounds were missed, or the process ends, which the feed learns by itself.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
            }
        }
    }
}

impl Hub {
    /// Starts the task.
    pub(crate) fn start(versions: Arc<ServedVersions>, watcher: Watcher) -> Self {
        let (rounds, _) = broadcast::channel(ROUNDS_MAX);
        let wanted = Arc::new(Notify::new());
        let task = tokio::spawn(run(versions, watcher, rounds.clone(), wanted.clone()));
        Self { rounds, wanted, task }
    }

    pub(super) fn woken(&self) -> Woken {
        let woken = Woken(self.rounds.subscribe());
        self.wanted.notify_one();
        woken
    }
}

async fn run(versions: Arc<ServedVersions>, watcher: Watcher, rounds: broadcast::Sender<Round>, wanted: Arc<Notify>) {
    loop {
        wanted.notified().await;
        let mut follower = watcher.follow();
        let mut since = None;
        while rounds.receiver_count() > 0 {
            match since.take() {
                Some(known) => since = round(&versions, &mut follower, known, &rounds).await,
                None => since = begin(&versions, &mut follower, &rounds).await,
            }
        }
    }
}

/// Where the partitions stood, from which on changes are looked for.
type Since = HashMap<i32, i64>;

/// The first round: what happened before it, feeds have to see for themselves.
async fn begin(versions: &ServedVersions, follower: &mut Follower, rounds: &broadcast::Sender<Round>) -> Option<Since> {
    timeout(PAUSE, follower.moved()).await.ok()?;
    let since = follower.positions(versions.name(timeline::NAME));
    tell(rounds, None);
    Some(since)
}

/// Tells what has changed since the last round. Nothing after a failure: then it begins anew.
async fn round(
    versions: &ServedVersions,
    follower: &mut Follower,
    since: Since,
    rounds: &broadcast::Sender<Round>,
) -> Option<Since> {
    if timeout(PAUSE, follower.moved()).await.is_err() {
        return Some(since);
    }
    // A version that has been switched to is where the one before was, or further.
    let reached = follower.positions(versions.name(timeline::NAME));
    let moved = reached.iter().filter_map(|(partition, position)| {
        let before = since.get(partition).copied().unwrap_or_default();
        (before != *position).then_some((*partition, before))
    });
    let (partitions, before): (Vec<i32>, Vec<i64>) = moved.unzip();
    if partitions.is_empty() {
        return Some(reached);
    }
    let changed = sqlx::query_scalar(timeline::WOKEN)
        .bind(partitions)
        .bind(before)
        .fetch_all(&versions.pool(timeline::NAME))
        .await;
    match changed {
        Ok(patients) if patients.is_empty() => {}
        Ok(patients) => tell(rounds, Some(Arc::new(HashSet::from_iter(patients)))),
        Err(_) => {
            tracing::warn!("the changes of timelines can't be read; feeds look for themselves");
            sleep(PAUSE).await;
            return None;
        }
    }
    Some(reached)
}

fn tell(rounds: &broadcast::Sender<Round>, round: Round) {
    if rounds.send(round).is_err() {
        tracing::trace!("nobody follows any more");
    }
}
