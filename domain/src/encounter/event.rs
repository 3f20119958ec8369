//! What has happened to an encounter.

use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fhir::{Coding, Resource};
use crate::record::Fact;
use crate::types::Note;

/// The events of an encounter. Each carries the resource as it stands afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EncounterEvent {
    Started { resource: Resource, notes: Vec<Note> },
    Recorded { resource: Resource, notes: Vec<Note> },
    Amended { resource: Resource, notes: Vec<Note> },
    Transferred { resource: Resource, location: Uuid, at: DateTime<Utc> },
    Finished { resource: Resource, at: DateTime<Utc>, disposition: Coding },
    Cancelled { resource: Resource, reason: Option<String> },
    EnteredInError { resource: Resource },
}

impl DomainEvent for EncounterEvent {
    fn event_type(&self) -> String {
        let name = match self {
            Self::Started { .. } => "Encounter.Started",
            Self::Recorded { .. } => "Encounter.Recorded",
            Self::Amended { .. } => "Encounter.Amended",
            Self::Transferred { .. } => "Encounter.Transferred",
            Self::Finished { .. } => "Encounter.Finished",
            Self::Cancelled { .. } => "Encounter.Cancelled",
            Self::EnteredInError { .. } => "Encounter.EnteredInError",
        };
        name.to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl Fact for EncounterEvent {
    fn resource(&self) -> &Resource {
        match self {
            Self::Started { resource, .. }
            | Self::Recorded { resource, .. }
            | Self::Amended { resource, .. }
            | Self::Transferred { resource, .. }
            | Self::Finished { resource, .. }
            | Self::Cancelled { resource, .. }
            | Self::EnteredInError { resource } => resource,
        }
    }

    fn notes(&self) -> &[Note] {
        match self {
            Self::Started { notes, .. } | Self::Recorded { notes, .. } | Self::Amended { notes, .. } => notes,
            _ => &[],
        }
    }

    fn note(&mut self, note: Note) {
        if let Self::Started { notes, .. } | Self::Recorded { notes, .. } | Self::Amended { notes, .. } = self {
            notes.push(note);
        }
    }
}
