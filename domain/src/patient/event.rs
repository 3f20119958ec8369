//! What has happened to a patient.

use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fhir::Resource;
use crate::record::Fact;
use crate::types::Note;

/// The events of a patient. Each carries the resource as it stands afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PatientEvent {
    Registered { resource: Resource, notes: Vec<Note> },
    Updated { resource: Resource, notes: Vec<Note> },
    Died { resource: Resource, died_at: DateTime<Utc> },
    LinkedAsDuplicate { resource: Resource, survivor: Uuid },
    EnteredInError { resource: Resource },
}

impl DomainEvent for PatientEvent {
    fn event_type(&self) -> String {
        let name = match self {
            Self::Registered { .. } => "Patient.Registered",
            Self::Updated { .. } => "Patient.Updated",
            Self::Died { .. } => "Patient.Died",
            Self::LinkedAsDuplicate { .. } => "Patient.LinkedAsDuplicate",
            Self::EnteredInError { .. } => "Patient.EnteredInError",
        };
        name.to_owned()
    }

    fn event_version(&self) -> String {
        let version = match self {
            Self::Registered { .. } => "2.0",
            _ => "1.0",
        };
        version.to_owned()
    }
}

impl Fact for PatientEvent {
    fn resource(&self) -> &Resource {
        match self {
            Self::Registered { resource, .. }
            | Self::Updated { resource, .. }
            | Self::Died { resource, .. }
            | Self::LinkedAsDuplicate { resource, .. }
            | Self::EnteredInError { resource } => resource,
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
