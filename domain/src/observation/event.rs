//! What has happened to an observation.

use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::fhir::Resource;
use crate::record::Fact;
use crate::types::Note;

/// The events of an observation. Each carries the resource as it stands afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ObservationEvent {
    Recorded { resource: Resource, notes: Vec<Note> },
    Amended { resource: Resource, notes: Vec<Note> },
    EnteredInError { resource: Resource },
}

impl DomainEvent for ObservationEvent {
    fn event_type(&self) -> String {
        let name = match self {
            Self::Recorded { .. } => "Observation.Recorded",
            Self::Amended { .. } => "Observation.Amended",
            Self::EnteredInError { .. } => "Observation.EnteredInError",
        };
        name.to_owned()
    }

    fn event_version(&self) -> String {
        let version = match self {
            Self::Recorded { .. } => "2.0",
            _ => "1.0",
        };
        version.to_owned()
    }
}

impl Fact for ObservationEvent {
    fn resource(&self) -> &Resource {
        match self {
            Self::Recorded { resource, .. } | Self::Amended { resource, .. } | Self::EnteredInError { resource } => {
                resource
            }
        }
    }

    fn notes(&self) -> &[Note] {
        match self {
            Self::Recorded { notes, .. } | Self::Amended { notes, .. } => notes,
            _ => &[],
        }
    }

    fn note(&mut self, note: Note) {
        if let Self::Recorded { notes, .. } | Self::Amended { notes, .. } = self {
            notes.push(note);
        }
    }
}
