//! The rules of the record: what may happen to a patient's data, and what follows from it.
//!
//! Everything here is a plain function over values. Time, identifiers, keys, databases and HTTP live in other crates;
//! nothing in this one reads a clock, draws a random number or does I/O.

pub mod access;
pub mod fhir;
pub mod types;

mod any_event;
mod common;
mod exact;
mod filing;
mod record;
mod stated;

pub mod alert;
pub mod allergy;
pub mod appointment;
pub mod clinical_record;
pub mod condition;
pub mod consent;
pub mod directory_entry;
pub mod early_warning;
pub mod emergency_access;
pub mod encounter;
pub mod medication_order;
pub mod observation;
pub mod patient;

pub use any_event::{AnyEvent, ReadError, read};
pub use common::Refusal;
pub use exact::from_value;
pub use filing::{OF_NOBODY, aggregate_for, homes};
pub use record::{Fact, Issued, Origin, PatientFacts, Record};
pub use stated::{StandingVersion, StatedVersion, Succession};
