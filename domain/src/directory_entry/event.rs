//! What has happened to a directory entry.

use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::fhir::Resource;
use crate::record::Fact;
use crate::types::Note;

/// The events of a directory entry. Each carries the resource as it stands afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DirectoryEntryEvent {
    Registered { resource: Resource, notes: Vec<Note> },
    Updated { resource: Resource, notes: Vec<Note> },
    Retired { resource: Resource },
}

impl DomainEvent for DirectoryEntryEvent {
    fn event_type(&self) -> String {
        let name = match self {
            Self::Registered { .. } => "DirectoryEntry.Registered",
            Self::Updated { .. } => "DirectoryEntry.Updated",
            Self::Retired { .. } => "DirectoryEntry.Retired",
        };
        name.to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl Fact for DirectoryEntryEvent {
    fn resource(&self) -> &Resource {
        match self {
            Self::Registered { resource, .. } | Self::Updated { resource, .. } | Self::Retired { resource } => resource,
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
