//! What both HTTP doors share, and nothing else.
//!
//! In the order of a request: [`server`] accepts it, [`pipeline`] names, bounds, counts, authenticates and ([`access`]) records it, [`json`] and
//! [`extract`] read it, and [`problem`] refuses it. [`telemetry`] and [`shutdown`] serve every process, those without a
//! door included. Nothing here knows a patient, an event or a table.

pub mod server;

pub mod access;
pub mod pipeline;

pub mod extract;
pub mod json;

pub mod problem;

pub mod shutdown;
pub mod telemetry;
