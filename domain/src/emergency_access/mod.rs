//! Broken glass: a physician opens the record of a patient whom they don't care for, with a reason and for a limited time;
//! an auditor reviews it.
//!
//! As a resource it is a FHIR R4 Task (<https://hl7.org/fhir/R4/task.html>): the review that is due.

mod command;
mod decide;
mod error;
mod event;
mod state;
mod upcast;

#[cfg(test)]
mod tests;

pub use command::EmergencyAccessCommand;
pub use decide::{ACCOUNT_SYSTEM, MINUTES_MAX};
pub use error::Error;
pub use event::EmergencyAccessEvent;
pub use state::EmergencyAccess;
