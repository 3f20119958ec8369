//! What has happened to an emergency access.

use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::fhir::Resource;
use crate::record::Fact;
use crate::types::Note;

/// The events of an emergency access. Each carries the resource as it stands afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EmergencyAccessEvent {
    Opened { resource: Resource, notes: Vec<Note> },
    Reviewed { resource: Resource },
}

impl DomainEvent for EmergencyAccessEvent {
    fn event_type(&self) -> String {
        let name = match self {
            Self::Opened { .. } => "EmergencyAccess.Opened",
            Self::Reviewed { .. } => "EmergencyAccess.Reviewed",
        };
        name.to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl Fact for EmergencyAccessEvent {
    fn resource(&self) -> &Resource {
        match self {
            Self::Opened { resource, .. } | Self::Reviewed { resource } => resource,
        }
    }

    fn notes(&self) -> &[Note] {
        match self {
            Self::Opened { notes, .. } => notes,
            Self::Reviewed { .. } => &[],
        }
    }

    fn note(&mut self, note: Note) {
        if let Self::Opened { notes, .. } = self {
            notes.push(note);
        }
    }
}
