//! What has happened to a patient.

use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fhir::Resource;
use crate::record::Fact;
use crate::types::Note;

/// The events of a patient. Each carries the resource as it stands afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PatientEvent {
    Registered {
        resource: Resource,
        notes: Vec<Note>,
    },
    Updated {
        resource: Resource,
        notes: Vec<Note>,
    },
    Died {
        resource: Resource,
        died_at: DateTime<Utc>,
    },
    LinkedAsDuplicate {
        resource: Resource,
        survivor: Uuid,
    },
    EnteredInError {
        resource: Resource,
    },
    LegalHoldPlaced {
        resource: Resource,
        hold: LegalHold,
    },
    LegalHoldReleased {
        resource: Resource,
        by: String,
        reason: String,
    },
    ErasureRequested {
        resource: Resource,
        request: ErasureRequest,
    },
    ErasureWithdrawn {
        resource: Resource,
        by: String,
    },
    /// The last event of a patient and of everything about them: see [`ERASED`].
    Erased {
        resource: Resource,
        request: ErasureRequest,
        approved_by: String,
        approved_at: DateTime<Utc>,
    },
}

/// The type of the event after which nothing of its subject is readable or written any more. It stands in the open header,
/// so that whoever meets it without a key knows what it means.
pub const ERASED: &str = "Patient.Erased";

/// Why the data of a patient has to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegalHold {
    /// The caller who placed it.
    pub by: String,
    pub reason: String,
}

/// Who wants a patient forgotten, since when, and why. It waits for somebody else's approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureRequest {
    /// The caller who asked; somebody else has to approve.
    pub by: String,
    pub at: DateTime<Utc>,
    pub reason: String,
}

impl DomainEvent for PatientEvent {
    fn event_type(&self) -> String {
        let name = match self {
            Self::Registered { .. } => "Patient.Registered",
            Self::Updated { .. } => "Patient.Updated",
            Self::Died { .. } => "Patient.Died",
            Self::LinkedAsDuplicate { .. } => "Patient.LinkedAsDuplicate",
            Self::EnteredInError { .. } => "Patient.EnteredInError",
            Self::LegalHoldPlaced { .. } => "Patient.LegalHoldPlaced",
            Self::LegalHoldReleased { .. } => "Patient.LegalHoldReleased",
            Self::ErasureRequested { .. } => "Patient.ErasureRequested",
            Self::ErasureWithdrawn { .. } => "Patient.ErasureWithdrawn",
            Self::Erased { .. } => ERASED,
        };
        name.to_owned()
    }

    fn event_version(&self) -> String {
        let version = match self {
            Self::Registered { .. } => "2.0",
            _ => "1.0",
        };
        version.to_owned()
    }
}

impl Fact for PatientEvent {
    fn resource(&self) -> &Resource {
        match self {
            Self::Registered { resource, .. }
            | Self::Updated { resource, .. }
            | Self::Died { resource, .. }
            | Self::LinkedAsDuplicate { resource, .. }
            | Self::EnteredInError { resource }
            | Self::LegalHoldPlaced { resource, .. }
            | Self::LegalHoldReleased { resource, .. }
            | Self::ErasureRequested { resource, .. }
            | Self::ErasureWithdrawn { resource, .. }
            | Self::Erased { resource, .. } => resource,
        }
    }

    fn notes(&self) -> &[Note] {
        match self {
            Self::Registered { notes, .. } | Self::Updated { notes, .. } => notes,
            _ => &[],
        }
    }

    fn note(&mut self, note: Note) {
        if let Self::Registered { notes, .. } | Self::Updated { notes, .. } = self {
            notes.push(note);
        }
    }
}
