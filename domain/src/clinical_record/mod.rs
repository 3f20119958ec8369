//! Any other resource of a patient, such as a procedure, a document or a claim: filed, amended, retracted.
//!
//! Only what FHIR demands of every resource is checked; a type that needs rules of its own becomes an aggregate of its own.

mod command;
mod decide;
mod error;
mod event;
mod retraction;
mod state;
mod upcast;

#[cfg(test)]
mod tests;

pub use command::ClinicalRecordCommand;
pub use error::Error;
pub use event::ClinicalRecordEvent;
pub use state::ClinicalRecord;

pub(crate) use retraction::{is_retracted, retracted, status_element};
