//! Reactors with both doors, a relay, a projector and a broker: what was recorded leads to a command, once, whatever dies.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alerts;
mod appointments;
mod latency;
mod rebuild;
mod world;
