//! Hot aggregates in memory.
//!
//! Nothing invalidates an entry when another process writes: the append checks the sequence, and a conflict tells
//! the caller to invalidate and load again. That is not enough for a store that lost its newest events, where other events
//! may get the same sequences: then everything is forgotten, see [`EventLog::on_rollback`](crate::EventLog::on_rollback).

use uuid::Uuid;

/// A bounded cache of folded aggregates with the sequence they stand at. Cheap to clone; clones share the entries.
pub struct AggregateCache<A>(moka::sync::Cache<Uuid, (i64, A)>);

impl<A: Clone + Send + Sync + 'static> AggregateCache<A> {
    /// A cache of at most this many aggregates.
    pub fn new(entries_max: u64) -> Self {
        Self(moka::sync::Cache::new(entries_max))
    }

    /// A cache of at most this many bytes, as `weigh` counts those of an aggregate.
    pub fn weighed(bytes_max: u64, weigh: impl Fn(&A) -> usize + Send + Sync + 'static) -> Self {
        let weigher = move |_: &Uuid, (_, state): &(i64, A)| u32::try_from(weigh(state)).unwrap_or(u32::MAX);
        Self(moka::sync::Cache::builder().weigher(weigher).max_capacity(bytes_max).build())
    }

    /// The aggregate as last seen by this process, and its sequence then.
    pub fn get(&self, id: Uuid) -> Option<(i64, A)> {
        self.0.get(&id)
    }

    /// Remembers an aggregate, unless a later state of it is there already: two requests may finish out of order.
    pub fn put(&self, id: Uuid, sequence: i64, state: A) {
        self.0.entry(id).and_upsert_with(|entry| match entry.map(moka::Entry::into_value) {
            Some((newer, kept)) if newer > sequence => (newer, kept),
            _ => (sequence, state),
        });
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.0.invalidate_all();
    }

    /// Forgets an aggregate that turned out to be stale.
    pub fn invalidate(&self, id: Uuid) {
        self.0.invalidate(&id);
    }
}

impl<A> Clone for AggregateCache<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_state_is_not_replaced_by_an_earlier_one() {
        let cache = AggregateCache::new(10);
        let id = Uuid::new_v4();
        cache.put(id, 2, "second");
        cache.put(id, 1, "first");
        assert_eq!(cache.get(id), Some((2, "second")));
        cache.invalidate(id);
        assert_eq!(cache.get(id), None);
        cache.put(id, 2, "second");
        cache.clear();
        assert_eq!(cache.get(id), None);
        cache.put(id, 1, "first");
        assert_eq!(cache.get(id), Some((1, "first")));
    }

    #[test]
    fn a_weighed_cache_is_bounded_by_bytes() {
        let cache = AggregateCache::weighed(1_000, |text: &String| text.len());
        for _ in 0..100 {
            cache.put(Uuid::new_v4(), 1, "x".repeat(100));
        }
        cache.0.run_pending_tasks();
        assert!(cache.0.weighted_size() <= 1_000 && cache.0.entry_count() > 0, "{:?}", cache.0);
        let large = Uuid::new_v4();
        cache.put(large, 1, "x".repeat(2_000));
        cache.0.run_pending_tasks();
        assert_eq!(cache.get(large), None, "what would push out everything else is not kept");
    }
}
