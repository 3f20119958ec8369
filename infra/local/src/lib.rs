//! Starts PostgreSQL, Apache Kafka and Keycloak as ordinary processes of this machine: no containers, no mocks.
//!
//! A server is *prepared* (folder, configuration, first format; safe to repeat) and then *launched*. What a launch
//! needs is a value, [`Launch`], so that the supervisor of a stack can restart it and a test can simply own it.
//! Everything here blocks; callers inside an async runtime use `spawn_blocking`.

pub mod jars;
pub mod kafka;
pub mod keycloak;
pub mod postgres;

mod launch;
mod ports;
mod private;
mod tls;
mod wait;

pub use kafka::Kafka;
pub use keycloak::Keycloak;
pub use launch::{Launch, Lifetime, Process, User, can_traverse};
pub use ports::{Ports, free_ports};
pub use postgres::{Authentication, Durability, Postgres};
pub use private::write_private;
pub use tls::TlsFiles;
pub use wait::wait_until;
