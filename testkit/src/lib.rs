//! What a test of a service needs for a world of its own: databases, a topic, an issuer, callers. Postgres and Kafka are
//! real; `./nexus test` starts them and says where they are. The whole, as processes, is tested in `cli/tests/end_to_end`.
//!
//! Setting a test up can't fail in an interesting way, so everything here panics with a sentence instead of returning
//! errors. Waiting is [`eventually`], never a sleep.

mod caller;
mod cleanup;
pub mod corpus;
mod database;
mod schemathesis;
mod servers;
mod template;
mod topic;
mod wait;

pub use caller::{Answer, Caller};
pub use database::TestDatabase;
pub use nexus_auth::Role;
pub use nexus_auth::testing::TestIssuer;
pub use schemathesis::schemathesis;
pub use servers::{kafka_address, postgres_url};
pub use topic::TestTopic;
pub use wait::{DEADLINE, eventually};
