//! What has happened to an alert.

use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::fhir::Resource;
use crate::record::Fact;
use crate::types::Note;

/// The events of an alert. Each carries the resource as it stands afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AlertEvent {
    /// Somebody has to come. May happen again after it was cleared.
    Raised { resource: Resource, notes: Vec<Note> },
    /// More urgent than before.
    Escalated { resource: Resource },
    /// Less urgent than before, and not over.
    Eased { resource: Resource },
    /// Over.
    Cleared { resource: Resource },
}

impl DomainEvent for AlertEvent {
    fn event_type(&self) -> String {
        let name = match self {
            Self::Raised { .. } => "Alert.Raised",
            Self::Escalated { .. } => "Alert.Escalated",
            Self::Eased { .. } => "Alert.Eased",
            Self::Cleared { .. } => "Alert.Cleared",
        };
        name.to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl Fact for AlertEvent {
    fn resource(&self) -> &Resource {
        match self {
            Self::Raised { resource, .. }
            | Self::Escalated { resource }
            | Self::Eased { resource }
            | Self::Cleared { resource } => resource,
        }
    }

    fn notes(&self) -> &[Note] {
        match self {
            Self::Raised { notes, .. } => notes,
            _ => &[],
        }
    }

    fn note(&mut self, note: Note) {
        if let Self::Raised { notes, .. } = self {
            notes.push(note);
        }
    }
}
