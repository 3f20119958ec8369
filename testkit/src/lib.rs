//! A world of its own for each test: databases, a topic, an issuer, callers, the services themselves, and a network that
//! can be cut. Postgres and Kafka are real; `./nexus test` starts them and says where they are.
//!
//! Setting a test up can't fail in an interesting way, so everything here panics with a sentence instead of returning
//! errors. Waiting is [`eventually`], never a sleep.

mod caller;
mod chaos;
mod cleanup;
mod database;
mod servers;
mod stack;
mod template;
mod topic;
mod wait;

pub use caller::{Answer, Caller};
pub use chaos::ChaosProxy;
pub use database::{TestDatabase, TestDatabases};
pub use nexus_auth::Role;
pub use nexus_auth::testing::TestIssuer;
pub use servers::{kafka_address, postgres_url};
pub use stack::{Callers, Program, TestStack};
pub use topic::TestTopic;
pub use wait::{DEADLINE, eventually};
