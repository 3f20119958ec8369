//! A patient's consent: granted, corrected, withdrawn.
//!
//! FHIR R4 Consent: <https://hl7.org/fhir/R4/consent.html>.

mod command;
mod decide;
mod error;
mod event;
mod state;
mod upcast;

#[cfg(test)]
mod tests;

pub use command::ConsentCommand;
pub use error::Error;
pub use event::ConsentEvent;
pub use state::Consent;
