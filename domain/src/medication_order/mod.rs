//! A medication ordered for a patient: prescribed, held, resumed, discontinued, completed.
//!
//! FHIR R4 MedicationRequest: <https://hl7.org/fhir/R4/medicationrequest.html>. The rule that matters most is that nothing is
//! prescribed against an active allergy unless the prescriber says why (`medication.rs`).

mod command;
mod decide;
mod error;
mod event;
mod form;
mod medication;
mod state;
mod upcast;

#[cfg(test)]
mod tests;

pub use command::MedicationOrderCommand;
pub use error::Error;
pub use event::MedicationOrderEvent;
pub use state::MedicationOrder;
