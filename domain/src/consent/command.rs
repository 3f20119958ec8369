//! What can be asked of a consent.

use crate::fhir::Resource;

/// The commands of a consent.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsentCommand {
    /// The patient consents.
    Grant { resource: Resource },
    /// Replaces what was stated by a corrected or newer statement.
    Amend { resource: Resource },
    /// The patient no longer consents.
    Withdraw { reason: Option<String> },
}
