//! A fact about no patient: a practitioner, an organization, a location and the like, and also a device that nobody has,
//! a group, or an observation about a place. Registered, updated, retired.
//!
//! An entry's business identifiers (such as an NPI) are claims: no two entries of a type share one, and a conditional
//! reference finds the entry that holds it, retired or not.

mod command;
mod decide;
mod error;
mod event;
mod form;
mod impersonal;
mod state;
mod upcast;

#[cfg(test)]
mod tests;

pub use command::DirectoryEntryCommand;
pub use error::Error;
pub use event::DirectoryEntryEvent;
pub use state::DirectoryEntry;
