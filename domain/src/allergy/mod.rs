//! An allergy or intolerance of a patient: recorded, corrected, refuted.
//!
//! FHIR R4 AllergyIntolerance: <https://hl7.org/fhir/R4/allergyintolerance.html>.

mod active;
mod command;
mod decide;
mod error;
mod event;
mod form;
mod state;
mod upcast;

#[cfg(test)]
mod tests;

pub use active::ActiveAllergy;
pub(crate) use active::significant_words;
pub use command::AllergyCommand;
pub use error::Error;
pub use event::AllergyEvent;
pub use state::Allergy;
