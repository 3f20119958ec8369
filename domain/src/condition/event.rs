//! What has happened to a condition.

use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::fhir::Resource;
use crate::record::Fact;
use crate::types::Note;

/// The events of a condition. Each carries the resource as it stands afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConditionEvent {
    Recorded { resource: Resource, notes: Vec<Note> },
    Amended { resource: Resource, notes: Vec<Note> },
    Resolved { resource: Resource, abated_at: DateTime<Utc> },
    Refuted { resource: Resource },
    EnteredInError { resource: Resource },
}

impl DomainEvent for ConditionEvent {
    fn event_type(&self) -> String {
        let name = match self {
            Self::Recorded { .. } => "Condition.Recorded",
            Self::Amended { .. } => "Condition.Amended",
            Self::Resolved { .. } => "Condition.Resolved",
            Self::Refuted { .. } => "Condition.Refuted",
            Self::EnteredInError { .. } => "Condition.EnteredInError",
        };
        name.to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl Fact for ConditionEvent {
    fn resource(&self) -> &Resource {
        match self {
            Self::Recorded { resource, .. }
            | Self::Amended { resource, .. }
            | Self::Resolved { resource, .. }
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
