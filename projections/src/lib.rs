//! Events in, read models and queries out.
//!
//! [`engine`] carries events from Kafka into the read database exactly once; it knows no read model. Each read model is
//! a folder with its schema, its fold, its queries and its routes; it knows neither the engine nor the others.
//! [`registry`] names them all. A reactor is a read model that also says what is to be done; [`reactor`] does it.

pub mod engine;
pub mod read_model;
pub mod registry;

pub mod reactor;

pub mod access_grants;
pub mod access_log;
pub mod appointment_follow_up;
pub mod appointments;
pub mod early_warning;
pub mod fhir_resources;
pub mod patient_chart;
pub mod patient_directory;
pub mod population;
pub mod timeline;
pub mod vital_signs;
pub mod ward_alerts;
pub mod ward_census;

pub mod query_api;

mod medicines;
mod people;
mod rows;

pub use read_model::{ApplyError, Event, Log, ReadModel, schema_of};
pub use registry::{access_read_models, all_read_models, reactors, read_models};
