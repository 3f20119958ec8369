//! Notices a consumer that has fallen silent: there is something to read, and for too long nothing has been read.
//!
//! What is there is asked of the broker anew each time. A consumer's own idea of the end would be as stale as the
//! consumer.

use std::time::{Duration, Instant};

/// The memory of one partition.
#[derive(Debug)]
pub(crate) struct Stall {
    /// Where the reader stood when it was first seen lagging there, and when that was.
    lagging: Option<(i64, Instant)>,
}

impl Stall {
    pub(crate) fn new() -> Self {
        Self { lagging: None }
    }

    /// One look: `next` is the reader's next offset, `high` the partition's; `waiting` says that the reader is waiting
    /// for records, rather than for a database that is away.
    pub(crate) fn is_stalled(&mut self, next: i64, high: i64, waiting: bool, now: Instant, max: Duration) -> bool {
        if high <= next || !waiting {
            self.lagging = None;
            return false;
        }
        match self.lagging {
            Some((at, since)) if at == next => now.duration_since(since) > max,
            _ => {
                self.lagging = Some((next, now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(20);

    #[test]
    fn lag_without_progress_is_a_stall() {
        let start = Instant::now();
        let mut stall = Stall::new();
        assert!(!stall.is_stalled(10, 12, true, start, MAX));
        assert!(!stall.is_stalled(10, 15, true, start + MAX, MAX));
        assert!(stall.is_stalled(10, 15, true, start + MAX * 2, MAX));
    }

    #[test]
    fn idling_progress_and_known_waits_are_not() {
        let start = Instant::now();
        let mut stall = Stall::new();
        for step in 0..10 {
            assert!(!stall.is_stalled(10, 10, true, start + MAX * 2 * step, MAX), "idle");
        }
        assert!(!stall.is_stalled(10, 11, true, start + MAX * 30, MAX), "the first record after idling");
        assert!(!stall.is_stalled(11, 20, true, start + MAX * 60, MAX), "progress");
        assert!(!stall.is_stalled(11, 20, false, start + MAX * 90, MAX), "the database is away");
        assert!(!stall.is_stalled(11, 20, true, start + MAX * 92, MAX), "it is back");
    }
}
