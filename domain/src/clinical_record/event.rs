//! What has happened to a clinical record.

use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::fhir::Resource;
use crate::record::Fact;
use crate::types::Note;

/// The events of a clinical record. Each carries the resource as it stands afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ClinicalRecordEvent {
    Filed { resource: Resource, notes: Vec<Note> },
    Amended { resource: Resource, notes: Vec<Note> },
    Retracted { resource: Resource },
}

impl DomainEvent for ClinicalRecordEvent {
    fn event_type(&self) -> String {
        let name = match self {
            Self::Filed { .. } => "ClinicalRecord.Filed",
            Self::Amended { .. } => "ClinicalRecord.Amended",
            Self::Retracted { .. } => "ClinicalRecord.Retracted",
        };
        name.to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl Fact for ClinicalRecordEvent {
    fn resource(&self) -> &Resource {
        match self {
            Self::Filed { resource, .. } | Self::Amended { resource, .. } | Self::Retracted { resource } => resource,
        }
    }

    fn notes(&self) -> &[Note] {
        match self {
            Self::Filed { notes, .. } | Self::Amended { notes, .. } => notes,
            _ => &[],
        }
    }

    fn note(&mut self, note: Note) {
        if let Self::Filed { notes, .. } | Self::Amended { notes, .. } = self {
            notes.push(note);
        }
    }
}
