//! Waits that grow, up to a limit, and end at once when told to stop.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::config::Limits;

pub(crate) struct Backoff {
    next: Duration,
    min: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { next: limits.backoff_min, min: limits.backoff_min, max: limits.backoff_max }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }

    /// Waits; false when told to stop meanwhile.
    pub(crate) async fn wait(&mut self, stop: &CancellationToken) -> bool {
        let wait = self.next;
        self.next = (self.next * 2).min(self.max);
        stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some()
    }
}
