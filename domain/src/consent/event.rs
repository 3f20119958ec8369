//! What has happened to a consent.

use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::fhir::Resource;
use crate::record::Fact;
use crate::types::Note;

/// The events of a consent. Each carries the resource as it stands afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConsentEvent {
    Granted { resource: Resource, notes: Vec<Note> },
    Amended { resource: Resource, notes: Vec<Note> },
    Withdrawn { resource: Resource, reason: Option<String> },
}

impl DomainEvent for ConsentEvent {
    fn event_type(&self) -> String {
        let name = match self {
            Self::Granted { .. } => "Consent.Granted",
            Self::Amended { .. } => "Consent.Amended",
            Self::Withdrawn { .. } => "Consent.Withdrawn",
        };
        name.to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl Fact for ConsentEvent {
    fn resource(&self) -> &Resource {
        match self {
            Self::Granted { resource, .. } | Self::Amended { resource, .. } | Self::Withdrawn { resource, .. } => {
                resource
            }
        }
    }

    fn notes(&self) -> &[Note] {
        match self {
            Self::Granted { notes, .. } | Self::Amended { notes, .. } => notes,
            _ => &[],
        }
    }

    fn note(&mut self, note: Note) {
        if let Self::Granted { notes, .. } | Self::Amended { notes, .. } = self {
            notes.push(note);
        }
    }
}
