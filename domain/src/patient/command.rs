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
    /// The data has to be kept, whoever asks for its erasure.
    PlaceLegalHold { by: String, reason: String },
    /// It need no longer be kept.
    ReleaseLegalHold { by: String, reason: String },
    /// Asks for the erasure of everything about this patient.
    RequestErasure { by: String, reason: String },
    /// Takes the request back.
    WithdrawErasure { by: String },
    /// A second person agrees: everything is erased, and there is no way back.
    ApproveErasure { by: String },
}
