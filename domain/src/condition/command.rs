//! What can be asked of a condition.

use chrono::{DateTime, Utc};

use crate::fhir::Resource;

/// The commands of a condition.
#[derive(Clone, Debug, PartialEq)]
pub enum ConditionCommand {
    /// States a condition of a patient.
    Record { resource: Resource },
    /// Replaces what was stated by a corrected or newer statement.
    Amend { resource: Resource },
    /// The condition is over.
    Resolve { abated_at: DateTime<Utc> },
    /// The patient never had the condition.
    Refute,
    /// The statement should not have been made.
    MarkEnteredInError,
}
