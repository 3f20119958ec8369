//! An observation of a patient: measured, found or asked; corrected; entered in error.
//!
//! FHIR R4 Observation: <https://hl7.org/fhir/R4/observation.html>.

mod command;
mod counts;
mod decide;
mod error;
mod event;
mod form;
mod limits;
mod state;
mod upcast;

#[cfg(test)]
mod tests;

pub use command::ObservationCommand;
pub use counts::{NotCounted, about, counts};
pub use error::Error;
pub use event::ObservationEvent;
pub use state::Observation;
