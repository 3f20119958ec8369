//! HTTP in, commands out: the write door.
//!
//! Read [`router`] for what can be asked, one resource's file (such as `observations`) for how a body becomes a command,
//! and [`executor`] for how a command becomes durable events. Rules are in `nexus-domain`, storage in
//! `nexus-event-store`; nothing here decides or stores.

pub mod config;
pub mod service;

pub mod router;

mod accepted;
mod app;
mod body;
mod call;
mod openapi;
mod refusal;

mod alerts;
mod allergies;
mod appointments;
mod conditions;
mod consents;
mod directory;
mod emergencies;
mod encounters;
mod erasure;
mod fhir;
mod medication_orders;
mod observations;
mod patients;
mod records;

mod claims;
pub mod executor;
mod existence;
mod forgetting;

pub use app::App;
pub use fhir::RESOURCE_BYTES_MAX;
pub use service::Service;
