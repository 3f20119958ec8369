//! Waiting for a condition.

use std::time::{Duration, Instant};

pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Long enough for a loaded machine; a test that passes needs a fraction of it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Polls until `check` gives something, and returns it; panics with `what` was awaited when the deadline has passed.
#[track_caller]
pub fn eventually<T, F>(what: &str, deadline: Duration, mut check: impl FnMut() -> F) -> impl Future<Output = T>
where
    F: Future<Output = Option<T>>,
{
    let caller = std::panic::Location::caller();
    async move {
        let started = Instant::now();
        loop {
            if let Some(found) = check().await {
                return found;
            }
            assert!(started.elapsed() < deadline, "{caller}: not within {deadline:?}: {what}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}
