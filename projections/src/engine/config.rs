//! What the engine needs from outside, and its limits.

use std::time::Duration;

use nexus_event_store::kafka::KafkaArgs;
use nexus_event_store::{Keyring, LogReader};
use sqlx::postgres::PgConnectOptions;

/// How consumers of a group agree on who reads which partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum GroupProtocol {
    /// The client-side protocol with cooperative hand-over. The default, because the session timeout is the client's to
    /// choose: the partitions of a killed process move within 6 seconds on any broker, with nothing to set there.
    #[default]
    Classic,
    /// KIP-848: the broker assigns. Its session timeout is a setting of the broker or the group, 45 s by default.
    Consumer,
}

/// Everything that the hosted read models share.
#[derive(Clone)]
pub struct EngineConfig {
    pub kafka: KafkaArgs,
    pub topic: String,
    /// Goes before `nexus.<read model>.v<version>`; for stacks or tests that share a broker.
    pub group_prefix: String,
    pub group_protocol: GroupProtocol,
    /// Makes this process a static member of its groups (KIP-345): it does not leave them when it stops, and one that
    /// starts under the same name within the session timeout gets its partitions back without moving anybody's. No two
    /// processes may have the same; without a name, stopping hands the partitions over at once.
    pub group_instance: Option<String>,
    /// The read database, without a search path: each read model gets a pool with its own.
    pub read_database: PgConnectOptions,
    pub log: LogReader,
    pub keyring: Keyring,
    /// Names this process in the checkpoints it owns.
    pub owner: String,
    pub limits: Limits,
}

/// Bounds and patience. The defaults are the measured ones; tests shorten the times.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Events that one transaction applies at most.
    pub batch_events_max: usize,
    /// Sealed bytes that one transaction applies at most (a single larger event still goes through alone).
    pub batch_bytes_max: usize,
    /// First and longest wait between tries of what may pass.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// Tries of an event that fails by itself, before it is parked.
    pub apply_attempts: u32,
    /// Lag without any progress for so long makes the watchdog rebuild the consumer.
    pub stall_max: Duration,
    /// How often lag is looked up and the watchdog looks.
    pub watch_interval: Duration,
    /// How long a running batch may take to finish when its partition is handed over or the process stops.
    pub handover_max: Duration,
    /// How long taking ownership is tried before the partitions are left to others.
    pub ownership_max: Duration,
    /// After losing a partition without being told by the group: the wait before taking it again.
    pub retake_after: Duration,
    /// A consumer that falls silent for so long loses its partitions (client-side protocol only).
    pub session_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_events_max: 1_000,
            batch_bytes_max: 4 * 1024 * 1024,
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            apply_attempts: 3,
            stall_max: Duration::from_secs(20),
            watch_interval: Duration::from_secs(1),
            handover_max: Duration::from_secs(5),
            ownership_max: Duration::from_secs(10),
            retake_after: Duration::from_secs(2),
            session_timeout: Duration::from_secs(6),
        }
    }
}

/// Connections per read model. Partitions of one read model take turns; more would only queue up inside Postgres.
pub(crate) const POOL_PER_READ_MODEL: u32 = 3;
/// Waiting longer for a connection counts as the database being away.
pub(crate) const POOL_ACQUIRE_MAX: Duration = Duration::from_secs(10);
/// No statement of a projector takes longer than this.
pub(crate) const STATEMENT_TIMEOUT: &str = "60s";
/// A session that died inside a transaction keeps its checkpoint locked no longer than this.
pub(crate) const IDLE_IN_TRANSACTION_TIMEOUT: &str = "10s";
/// Records that librdkafka fetches ahead, per partition.
pub(crate) const PREFETCH_KIB_PER_PARTITION: &str = "2048";
/// Gap filling asks the event store for so many events at a time.
pub(crate) const GAP_CHUNK: i64 = 500;
