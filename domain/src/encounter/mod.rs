//! An encounter: the patient comes, is moved between places, and leaves.
//!
//! FHIR R4 Encounter: <https://hl7.org/fhir/R4/encounter.html>.

mod command;
mod decide;
mod error;
mod event;
mod form;
mod state;
mod upcast;

#[cfg(test)]
mod tests;

pub use command::EncounterCommand;
pub use error::Error;
pub use event::EncounterEvent;
pub use state::Encounter;
