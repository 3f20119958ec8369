//! What other processes did to keys reaches this one within seconds: erased and replaced keys leave the cache, new
//! generations are learned.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::SubjectKey;
use super::store::KeyStore;
use crate::error::Error;

/// How often the store is asked for changes: with the time of a query, the longest that an erasure goes unnoticed by a
/// process that reaches the store.
pub(super) const POLL: Duration = Duration::from_secs(1);

/// Up to where changes of keys are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeMark(std::borrow::Cow<'static, str>);

impl ChangeMark {
    pub(super) const BEGINNING: Self = Self(std::borrow::Cow::Borrowed("0"));
}

/// Whose keys changed after a mark.
#[derive(Clone, Debug)]
pub struct KeyChanges {
    /// Erased, or given another key. A subject may be named again by the next question, never missed.
    pub subjects: Vec<Uuid>,
    /// Where to go on.
    pub mark: ChangeMark,
    /// The newest generation in the store.
    pub(super) generation: Option<i32>,
}

/// Subject keys in memory: bounded in number and time, and emptied of what has changed.
#[derive(Clone)]
pub(super) struct Cache {
    keys: moka::sync::Cache<Uuid, SubjectKey>,
    /// Raised before anything is dropped, so that a key that was read before and arrives after does not stay.
    drops: Arc<AtomicU64>,
    listeners: Arc<RwLock<Vec<Listener>>>,
}

type Listener = Box<dyn Fn() + Send + Sync>;

/// When a read of the store began, seen from the cache.
#[derive(Clone, Copy)]
pub(super) struct Before(u64);

impl Cache {
    pub(super) fn new(keys_max: u64, lifetime: Duration) -> Self {
        let keys = moka::sync::Cache::builder().max_capacity(keys_max).time_to_live(lifetime).build();
        Self { keys, drops: Arc::default(), listeners: Arc::default() }
    }

    pub(super) fn get(&self, subject: Uuid) -> Option<SubjectKey> {
        self.keys.get(&subject)
    }

    /// Taken before a key is read from the store.
    pub(super) fn before(&self) -> Before {
        Before(self.drops.load(Ordering::SeqCst))
    }

    /// Keeps a key that was read after `before`, unless something has been dropped since: it may have been this one.
    pub(super) fn put(&self, before: Before, key: &SubjectKey) {
        self.keys.insert(key.subject(), key.clone());
        if self.before().0 != before.0 {
            self.keys.invalidate(&key.subject());
        }
    }

    pub(super) fn forget(&self, subjects: &[Uuid]) {
        self.drops.fetch_add(1, Ordering::SeqCst);
        for subject in subjects {
            self.keys.invalidate(subject);
        }
    }

    fn forget_all(&self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
        self.keys.invalidate_all();
    }

    pub(super) fn on_changed(&self, listener: Listener) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    fn tell(&self) {
        self.listeners.read().unwrap_or_else(PoisonError::into_inner).iter().for_each(|listener| listener());
    }
}

/// What changed after `since`. A transaction that was still open then is asked for again: it has no lower number than the
/// oldest that was open.
pub(super) async fn changes(pool: &PgPool, since: &ChangeMark) -> Result<KeyChanges, Error> {
    let (subjects, mark, generation): (_, String, _) = sqlx::query_as(
        "select coalesce((select array_agg(distinct subject) from key_changes where transaction >= $1::xid8), '{}'),
                pg_snapshot_xmin(pg_current_snapshot())::text,
                (select max(id) from generations)",
    )
    .bind(&*since.0)
    .fetch_one(pool)
    .await?;
    Ok(KeyChanges { subjects, mark: ChangeMark(mark.into()), generation })
}

/// Where to begin: everything before is in what is read from now on.
pub(super) async fn mark(pool: &PgPool) -> Result<ChangeMark, Error> {
    let mark = sqlx::query_scalar::<_, String>("select pg_snapshot_xmin(pg_current_snapshot())::text");
    Ok(ChangeMark(mark.fetch_one(pool).await?.into()))
}

/// Follows the store until it is dropped. A master key that is away delays new generations and nothing else.
pub(super) async fn follow(store: KeyStore, cache: Cache, since: ChangeMark) {
    let (newest, told) = watch::channel(None);
    tokio::join!(follow_changes(&store, &cache, since, &newest), learn(&store, told));
}

async fn follow_changes(store: &KeyStore, cache: &Cache, mut since: ChangeMark, newest: &watch::Sender<Option<i32>>) {
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut in_touch = true;
    loop {
        ticks.tick().await;
        match changes(&store.pool, &since).await {
            Ok(changes) => {
                if !in_touch {
                    // It may be another store than before: one that was restored counts from elsewhere.
                    tracing::info!("the key store answers again; keys are read anew");
                    cache.forget_all();
                    cache.tell();
                } else if !changes.subjects.is_empty() {
                    cache.forget(&changes.subjects);
                    cache.tell();
                }
                in_touch = true;
                newest.send_replace(changes.generation);
                since = changes.mark;
            }
            Err(error) => {
                if in_touch {
                    tracing::warn!(error = &error as &dyn std::error::Error, "changes of keys can't be read");
                }
                in_touch = false;
                continue;
            }
        }
        if let Err(error) = store.uses.store(&store.pool).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "the number of seals could not be stored");
        }
    }
}

/// Unwraps generations that others have begun. Told every [`POLL`], so a failure is tried again.
async fn learn(store: &KeyStore, mut told: watch::Receiver<Option<i32>>) {
    while told.changed().await.is_ok() {
        let newest = *told.borrow_and_update();
        if newest.is_none_or(|newest| store.generations.knows(newest)) {
            continue;
        }
        match store.generations.learn().await {
            Ok(()) => tracing::info!(generation = newest, "new keys are wrapped under a new generation"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a new generation key can't be unwrapped");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_being_read_while_keys_were_dropped_is_not_kept() {
        let cache = Cache::new(10, Duration::from_secs(60));
        let key = SubjectKey::generate(Uuid::new_v4());
        let before = cache.before();
        cache.forget(&[key.subject()]);
        cache.put(before, &key);
        assert!(cache.get(key.subject()).is_none());
        cache.put(cache.before(), &key);
        assert!(cache.get(key.subject()).is_some());
        cache.forget_all();
        assert!(cache.get(key.subject()).is_none());
    }
}
