//! From Kafka's records to rows: each event once, in order, whatever dies in between.
//!
//! Four rules carry it all. They hold by arithmetic and by the database, not by timing:
//!
//! 1. Positions of a partition have no gaps. A record at or below the checkpoint is a repetition and is dropped; one
//!    beyond the next position reveals a gap, which is filled from the event store ([`batch`], [`partition`]).
//! 2. Rows and checkpoint change in one transaction, and the checkpoint moves only from the position its owner last saw
//!    and under the owner's epoch ([`checkpoint`]). A consumer that slept through a rebalance changes nothing.
//! 3. The checkpoint, not Kafka's group offset, says where to read on ([`session`]).
//! 4. An event that can't be read or applied is parked with the later events of its subject, in order ([`parked`]).
//!
//! Read on in [`session`] (who reads which partition), then [`partition`] (the loop), then [`apply`] (the transaction).

pub mod batch;
pub mod checkpoint;
pub mod config;
pub mod forgotten;
pub mod hashes;
pub mod parked;
pub mod rebuild;
pub mod versions;
pub mod wait;

mod apply;
mod backoff;
mod context;
mod fault;
mod host;
mod metrics;
mod migrate;
pub(crate) mod notify;
mod open;
mod partition;
mod service;
mod session;
mod source;
mod start;
mod supervisor;
mod watchdog;

#[cfg(test)]
mod simulation;

pub use config::{EngineConfig, GroupProtocol, Limits};
pub use hashes::{Hashes, row_hashes, row_hashes_with};
pub use migrate::{MigrateError, migrate, migrate_models};
pub use notify::CHANNEL as PROGRESS_CHANNEL;
pub use service::{Projector, ProjectorConfig};
pub use supervisor::Engine;
pub(crate) use wait::Follower;
pub use wait::{Lag, Watcher, lag};
