//! What can be asked of an emergency access.

use crate::fhir::Resource;

/// The commands of an emergency access.
#[derive(Clone, Debug, PartialEq)]
pub enum EmergencyAccessCommand {
    /// Opens the record.
    Open { resource: Resource },
    /// Closes the case with a finding; what is left of the time ends with it.
    Review {
        finding: String,
        /// The account of whoever reviews, as the issuer names it.
        reviewer: String,
    },
    /// Takes it back, which is not possible: that the glass was broken stays on record.
    Retract,
}
