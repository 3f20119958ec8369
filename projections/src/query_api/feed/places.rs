//! Who has how many feeds open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::gauge;
use nexus_auth::Caller;
use nexus_web::problem::Problem;

use super::FeedArgs;
use super::hub::{Hub, Woken};
use super::stream::{Feed, Stopping};

/// The feeds of this process.
pub(crate) struct Feeds {
    settings: FeedArgs,
    open: Arc<Open>,
    hub: Hub,
}

/// How many each caller has open; who has none is not in it.
#[derive(Default)]
struct Open(Mutex<HashMap<String, u32>>);

/// One open feed. Its place is free again when it is dropped.
pub(super) struct Place {
    open: Arc<Open>,
    caller: String,
}

impl Feeds {
    pub(crate) fn new(settings: FeedArgs, hub: Hub) -> Self {
        Self { settings, open: Arc::default(), hub }
    }

    /// One more feed of this caller, if there is a place for it.
    pub(crate) fn enter(&self, caller: &Caller, stopping: Stopping) -> Result<Feed, Problem> {
        let mut open = self.open.counts();
        let own = open.get(caller.id()).copied().unwrap_or_default();
        if own >= self.settings.feeds_per_caller || open.values().sum::<u32>() >= self.settings.feeds_max {
            return Err(Problem::too_many_feeds());
        }
        open.insert(caller.id().to_owned(), own + 1);
        gauge!("query_feeds_open").increment(1.0);
        let place = Place { open: self.open.clone(), caller: caller.id().to_owned() };
        Ok(Feed { caller: caller.clone(), place, stopping, settings: self.settings })
    }

    /// Wakes whoever holds it when timelines have changed.
    pub(crate) fn woken(&self) -> Woken {
        self.hub.woken()
    }
}

impl Open {
    fn counts(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        gauge!("query_feeds_open").decrement(1.0);
        let mut open = self.open.counts();
        match open.get_mut(&self.caller) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.caller)),
        }
    }
}
