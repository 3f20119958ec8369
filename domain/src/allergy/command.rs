//! What can be asked of an allergy.

use crate::fhir::Resource;

/// The commands of an allergy.
#[derive(Clone, Debug, PartialEq)]
pub enum AllergyCommand {
    /// States an allergy or intolerance of a patient.
    Record { resource: Resource },
    /// Replaces what was stated by a corrected or newer statement.
    Amend { resource: Resource },
    /// The patient does not have the allergy.
    Refute,
    /// The statement should not have been made.
    MarkEnteredInError,
}
