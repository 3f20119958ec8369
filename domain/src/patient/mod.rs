//! A patient: registered, updated, died, found to be a duplicate of another record.
//!
//! FHIR R4 Patient: <https://hl7.org/fhir/R4/patient.html>.

mod command;
mod decide;
mod error;
mod event;
mod state;
mod upcast;

#[cfg(test)]
mod tests;

pub use command::PatientCommand;
pub use error::Error;
pub use event::PatientEvent;
pub use state::Patient;
