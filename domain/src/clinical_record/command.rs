//! What can be asked of a clinical record.

use crate::fhir::Resource;

/// The commands of a clinical record.
#[derive(Clone, Debug, PartialEq)]
pub enum ClinicalRecordCommand {
    /// Files a resource of a patient.
    File { resource: Resource },
    /// Replaces what was filed by a corrected or newer statement.
    Amend { resource: Resource },
    /// The resource should not have been filed.
    Retract,
}
