//! The durable log, from plain event to Kafka: seal, append, publish, read back.
//!
//! This crate knows envelopes and bytes, not patients: it never looks into a payload, and it depends on no
//! crate of the domain. Read [`append`] and [`relay`] first; everything else serves those two.

pub mod append;
pub mod envelope;
pub mod kafka;
pub mod keyring;
pub mod relay;
pub mod sabotage;

mod cache;
mod channel;
mod cqrs;
mod database;
mod erasure;
mod error;
mod event;
mod load;
mod log;
mod migrate;
mod partition;
mod position;
mod published;
mod resume;
mod snapshot;

pub use append::{Append, Claim, ClaimRules, Claimed, Expectation, IdempotencyKey, Outcome, ReleaseClaim, TakeClaim};
pub use cache::AggregateCache;
pub use cqrs::{AggregateStore, LoadedAggregate};
pub use database::{DatabaseUrlError, database_options};
pub use envelope::EnvelopeError;
pub use erasure::{ErasedSubject, Forgotten};
pub use error::{Error, KeyError};
pub use event::{ERASED, Header, Metadata, NewEvent, Opened, SealedEvent, SourceVersion, StoredEvent, event_id};
pub use keyring::{Erasure, Keyring, MasterKey, MasterKeyArgs, RecordedErasure, SubjectKey};
pub use load::LogReader;
pub use log::{EventLog, LogConfig};
pub use migrate::{ACCESS_SCHEMA, in_schema, migrate_access_log, migrate_keys, migrate_log};
pub use partition::{PARTITIONS_DEFAULT, partition_of};
pub use position::{InvalidPositionToken, PositionToken, Receipt};
pub use resume::Resumed;
pub use snapshot::SNAPSHOT_EVERY;
