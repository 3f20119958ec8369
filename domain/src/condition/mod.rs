//! A condition (problem, diagnosis) of a patient: recorded, corrected, resolved, refuted.
//!
//! FHIR R4 Condition: <https://hl7.org/fhir/R4/condition.html>.

mod command;
mod decide;
mod error;
mod event;
mod state;
mod upcast;

#[cfg(test)]
mod tests;

pub use command::ConditionCommand;
pub use error::Error;
pub use event::ConditionEvent;
pub use state::Condition;
