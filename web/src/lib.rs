//! What both HTTP doors share, and nothing else.
//!
//! In the order of a request: [`server`] accepts it, [`pipeline`] names, bounds, counts and authenticates it, [`json`] and
//! [`extract`] read it, and [`problem`] refuses it. [`telemetry`] and [`shutdown`] serve every process, those without a
//! door included. Nothing here knows a patient, an event or a table.

pub mod server;

pub mod pipeline;

pub mod extract;
pub mod json;

pub mod problem;

mod harden;
pub mod shutdown;
pub mod telemetry;

pub use harden::harden;
