//! What can be asked of a patient's record.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::fhir::Resource;

/// The commands of a patient.
#[derive(Clone, Debug, PartialEq)]
pub enum PatientCommand {
    /// Opens a record.
    Register { resource: Resource },
    /// Replaces identifiers and demographics.
    Update { resource: Resource },
    /// The patient has died.
    RecordDeath { died_at: DateTime<Utc> },
    /// This record is a duplicate; work goes on in the survivor's.
    LinkDuplicate {
        survivor: Uuid,
        /// Whether the survivor's record exists and was not itself replaced.
        survivor_exists: bool,
    },
    /// The record should never have been opened.
    MarkEnteredInError,
}
