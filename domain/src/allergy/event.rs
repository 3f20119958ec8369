//! What has happened to an allergy.

use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::fhir::Resource;
use crate::record::Fact;
use crate::types::Note;

/// The events of an allergy. Each carries the resource as it stands afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AllergyEvent {
    Recorded { resource: Resource, notes: Vec<Note> },
    Amended { resource: Resource, notes: Vec<Note> },
    Refuted { resource: Resource },
    EnteredInError { resource: Resource },
}

impl DomainEvent for AllergyEvent {
    fn event_type(&self) -> String {
        let name = match self {
            Self::Recorded { .. } => "Allergy.Recorded",
            Self::Amended { .. } => "Allergy.Amended",
            Self::Refuted { .. } => "Allergy.Refuted",
            Self::EnteredInError { .. } => "Allergy.EnteredInError",
        };
        name.to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl Fact for AllergyEvent {
    fn resource(&self) -> &Resource {
        match self {
            Self::Recorded { resource, .. }
            | Self::Amended { resource, .. }
            | Self::Refuted { resource }
            | Self::EnteredInError { resource } => resource,
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
