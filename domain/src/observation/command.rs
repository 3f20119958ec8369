//! What can be asked of an observation.

use crate::fhir::Resource;

/// The commands of an observation.
#[derive(Clone, Debug, PartialEq)]
pub enum ObservationCommand {
    /// States what was observed.
    Record { resource: Resource },
    /// Replaces what was stated by a corrected or newer statement.
    Amend { resource: Resource },
    /// The statement should not have been made.
    MarkEnteredInError,
}
