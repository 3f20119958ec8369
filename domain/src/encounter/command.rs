//! What can be asked of an encounter.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::fhir::{Coding, Resource};

/// The commands of an encounter.
#[derive(Clone, Debug, PartialEq)]
pub enum EncounterCommand {
    /// The patient is here: the encounter begins.
    Start { resource: Resource },
    /// States an encounter as it went elsewhere, whatever its status.
    Record { resource: Resource },
    /// Replaces what was stated by a corrected or newer statement.
    Amend { resource: Resource },
    /// The patient moves to another place.
    Transfer { location: Uuid, at: DateTime<Utc> },
    /// The patient leaves.
    Finish { at: DateTime<Utc>, disposition: Coding },
    /// The encounter does not take place or is broken off.
    Cancel { reason: Option<String> },
    /// The encounter should not have been recorded.
    MarkEnteredInError,
}
