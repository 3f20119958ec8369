//! What the clients did and what they were told: the history that the checks read.

use serde::Serialize;
use uuid::Uuid;

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Register,
    RegisterDuplicate,
    /// A stay in hospital begins: from then on the early warning looks at the patient.
    Admit,
    Record,
    Amend,
    AmendIfMatch,
    /// With the position of the client's last write.
    ReadOwn,
    Read,
}

/// Where the log has an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    pub partition: i32,
    pub position: i64,
}

/// One version of one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Version {
    pub resource_type: String,
    pub id: Uuid,
    pub sequence: i64,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A command was accepted: its event, and where it is.
    Accepted { version: Version, place: Place },
    /// A read was answered.
    Seen { version: Version },
    /// Nothing was done, and the answer said so.
    Refused { problem: String },
    /// A read found nothing.
    Absent { resource_type: String, id: Uuid },
    /// To the end nobody knows.
    Unknown,
}

/// One operation, from its first try to its last.
#[derive(Clone, Debug, Serialize)]
pub struct Operation {
    pub client: usize,
    pub action: Action,
    /// Since the start of the run.
    pub started_ms: u64,
    pub ended_ms: u64,
    pub tries: u32,
    /// Tries of which it was not known whether they took effect.
    pub unknown: u32,
    /// The number that a registration claims, and no other may.
    pub mrn: Option<String>,
    /// Of a read: the version that the same session has written or seen before.
    pub at_least: Option<i64>,
    pub outcome: Outcome,
}

impl Operation {
    pub fn is_ok(&self) -> bool {
        matches!(self.outcome, Outcome::Accepted { .. } | Outcome::Seen { .. })
    }

    /// The event that an accepted command was told about.
    pub fn accepted(&self) -> Option<(&Version, Place)> {
        match &self.outcome {
            Outcome::Accepted { version, place } => Some((version, *place)),
            _ => None,
        }
    }
}

impl Place {
    /// Reads a position token of a command with one event: `3-1042`.
    pub fn parse(token: &str) -> Option<Self> {
        let (partition, position) = token.split_once('-')?;
        Some(Self { partition: partition.parse().ok()?, position: position.parse().ok()? })
    }
}
