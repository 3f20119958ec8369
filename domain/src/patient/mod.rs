//! A patient: registered, updated, died, found to be a duplicate of another record; at last, perhaps, erased.
//!
//! FHIR R4 Patient: <https://hl7.org/fhir/R4/patient.html>.

mod command;
mod decide;
mod erasure;
mod error;
mod event;
mod merge;
mod state;
mod upcast;

#[cfg(test)]
mod erasure_tests;
#[cfg(test)]
mod tests;

pub use command::PatientCommand;
pub use erasure::REQUEST_DAYS_MAX;
pub use error::Error;
pub use event::{ERASED, ErasureRequest, LegalHold, PatientEvent};
pub use merge::may_share_number;
pub use state::Patient;
