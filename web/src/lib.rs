//! What both HTTP doors share, and nothing else.
//!
//! In the order of a request: [`server`] accepts it ([`tls`]), [`pipeline`] names, bounds and counts it,
//! [`authenticate`] finds out who sent it, [`rate_limit`] bounds what each caller asks, [`access`] records it, [`media`],
//! [`body`], [`room`], [`json`] and [`extract`] read it, [`cors`] lets browsers in where that is wished, and [`problem`]
//! refuses it, as [`outcome`] tells it where FHIR is spoken. [`telemetry`] and [`shutdown`] serve every process, those
//! without a door included. Nothing here knows a patient, an event or a table.

pub mod server;
pub mod tls;
pub mod transport;

pub mod access;
pub mod authenticate;
pub mod cors;
pub mod pipeline;
pub mod rate_limit;

pub mod body;
pub mod extract;
pub mod json;
pub mod media;
pub mod room;

pub mod outcome;
pub mod problem;

mod address;
mod harden;
mod leftover;
mod pretty;
pub mod shutdown;
mod stall;
pub mod telemetry;

pub use harden::harden;
