//! What a read model has to say about itself; everything else is the engine's business.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use nexus_domain::{AnyEvent, ReadError};
use nexus_event_store::{Header, Keyring, SubjectKey};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

/// A log that read models are made from. Each has a topic, positions and heads of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Log {
    /// What has happened to patients: `nexus.events.v1`.
    #[default]
    Events,
    /// Who looked at it: `nexus.access.v1`. Its events are foreign to the domain.
    Access,
}

impl Log {
    /// Its name in the engine's tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Access => "access",
        }
    }
}

/// One event, opened and typed, as read models get it.
#[derive(Clone)]
pub struct Event {
    pub partition: i32,
    pub position: i64,
    pub subject: Uuid,
    pub aggregate_type: String,
    pub aggregate_id: Uuid,
    pub sequence: i64,
    pub recorded_at: DateTime<Utc>,
    pub actor: String,
    pub fact: AnyEvent,
    /// The key of the event's subject, for sealing what a row keeps of its identity.
    pub key: SubjectKey,
}

/// Why a batch could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The database refused a statement or did not answer. The engine tells by the error whether the cause may pass.
    #[error("the database refused a statement or did not answer")]
    Database(#[from] sqlx::Error),
    /// Sealing or opening a row failed.
    #[error("a row can't be sealed or opened")]
    Seal(#[from] nexus_event_store::Error),
    /// An event that this read model has no answer to. The code is a stable word and never holds a value of the event.
    #[error("the read model can't apply the event: {0}")]
    Event(&'static str),
}

/// A fold of the log into tables of its own. It sees each event exactly once and in the order of its partition;
/// partitions are applied concurrently, so a row must belong to one subject, or be safe under concurrent upserts.
#[async_trait]
pub trait ReadModel: Send + Sync + 'static {
    /// The name in `snake_case`; part of the consumer group's and the schema's name.
    fn name(&self) -> &'static str;

    /// The log that it is made from.
    fn log(&self) -> Log {
        Log::Events
    }

    /// Rises whenever the rows would come out differently: the fold's version. What it fills is built beside what an older
    /// one has filled, and has a version number of its own there, as high at least.
    fn version(&self) -> i32;

    /// The tables, with unqualified names and `if not exists` nowhere needed: run once, in an empty schema.
    fn schema_sql(&self) -> &'static str;

    /// Whether it is a reactor: its schema has a table of orders ([`crate::reactor`]), which the process `reactor` carries out.
    fn gives_orders(&self) -> bool {
        false
    }

    /// Views that analysts name: as `<read model>.<view>`, whichever version is served.
    fn published(&self) -> &'static [&'static str] {
        &[]
    }

    /// What an event's payload says to this version of the program: one event, or several of an old one.
    ///
    /// # Errors
    /// If it is no event of its log.
    fn read(&self, header: &Header, payload: Value) -> Result<Vec<AnyEvent>, ReadError> {
        AnyEvent::parse(&header.aggregate_type, &header.event_type, &header.event_version, payload)
    }

    /// Whether events of this aggregate type matter. The others advance the checkpoint and are never opened.
    fn wants(&self, aggregate_type: &str) -> bool;

    /// Applies events of one partition, in order and set-based, inside the transaction that moves the checkpoint.
    /// The search path is the read model's schema. It must not commit, and it must do nothing outside of `tx`.
    async fn apply(&self, tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError>;

    /// Drops what is kept of an erased subject, and answers how many rows that were. Called in the same transaction, possibly
    /// repeatedly.
    /// The keyring gives no key of theirs any more, but the blind hash that rows without an identity go by.
    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, keyring: &Keyring) -> Result<u64, ApplyError> {
        let _ = (tx, subject, keyring);
        Ok(0)
    }
}

/// The schema that holds a version of a read model.
pub fn schema_of(read_model: &str, version: i32) -> String {
    format!("{read_model}_v{version}")
}
