//! The settings of the read door about live feeds.

use std::time::Duration;

/// How many feeds there may be, and their times.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct FeedArgs {
    /// Feeds open at a time in this process.
    #[arg(long, env = "NEXUS_FEEDS_MAX", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub feeds_max: u32,
    /// Feeds that each caller may have open at a time in this process.
    #[arg(long, env = "NEXUS_FEEDS_PER_CALLER", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub feeds_per_caller: u32,
    /// How often a feed says that it lives while there is nothing else to say, in milliseconds.
    #[arg(long, env = "NEXUS_FEED_HEARTBEAT_MS", default_value_t = 15_000,
        value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub feed_heartbeat_ms: u64,
    /// How often a feed asks whether its caller may still see what it shows while nothing happens, in milliseconds.
    #[arg(long, env = "NEXUS_FEED_RECHECK_MS", default_value_t = 2_000,
        value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub feed_recheck_ms: u64,
    /// How long a feed waits for a client that does not read before it ends, in milliseconds.
    #[arg(long, env = "NEXUS_FEED_STALL_MS", default_value_t = 10_000,
        value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub feed_stall_ms: u64,
}

impl FeedArgs {
    pub(super) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.feed_heartbeat_ms)
    }

    pub(super) fn recheck(&self) -> Duration {
        Duration::from_millis(self.feed_recheck_ms)
    }

    pub(super) fn stall(&self) -> Duration {
        Duration::from_millis(self.feed_stall_ms)
    }
}
