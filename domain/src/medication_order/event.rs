//! What has happened to a medication order.

use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::fhir::Resource;
use crate::record::Fact;
use crate::types::Note;

/// The events of a medication order. Each carries the resource as it stands afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MedicationOrderEvent {
    Prescribed { resource: Resource, override_reason: Option<String>, notes: Vec<Note> },
    Recorded { resource: Resource, notes: Vec<Note> },
    Amended { resource: Resource, notes: Vec<Note> },
    Held { resource: Resource, reason: String },
    Resumed { resource: Resource },
    Discontinued { resource: Resource, reason: String },
    Completed { resource: Resource },
    EnteredInError { resource: Resource },
}

impl DomainEvent for MedicationOrderEvent {
    fn event_type(&self) -> String {
        let name = match self {
            Self::Prescribed { .. } => "MedicationOrder.Prescribed",
            Self::Recorded { .. } => "MedicationOrder.Recorded",
            Self::Amended { .. } => "MedicationOrder.Amended",
            Self::Held { .. } => "MedicationOrder.Held",
            Self::Resumed { .. } => "MedicationOrder.Resumed",
            Self::Discontinued { .. } => "MedicationOrder.Discontinued",
            Self::Completed { .. } => "MedicationOrder.Completed",
            Self::EnteredInError { .. } => "MedicationOrder.EnteredInError",
        };
        name.to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl Fact for MedicationOrderEvent {
    fn resource(&self) -> &Resource {
        match self {
            Self::Prescribed { resource, .. }
            | Self::Recorded { resource, .. }
            | Self::Amended { resource, .. }
            | Self::Held { resource, .. }
            | Self::Resumed { resource }
            | Self::Discontinued { resource, .. }
            | Self::Completed { resource }
            | Self::EnteredInError { resource } => resource,
        }
    }

    fn notes(&self) -> &[Note] {
        match self {
            Self::Prescribed { notes, .. } | Self::Recorded { notes, .. } | Self::Amended { notes, .. } => notes,
            _ => &[],
        }
    }

    fn note(&mut self, note: Note) {
        if let Self::Prescribed { notes, .. } | Self::Recorded { notes, .. } | Self::Amended { notes, .. } = self {
            notes.push(note);
        }
    }
}
