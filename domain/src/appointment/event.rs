//! What has happened to an appointment.

use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::fhir::Resource;
use crate::record::Fact;
use crate::types::Note;

/// The events of an appointment. Each carries the resource as it stands afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AppointmentEvent {
    Booked {
        resource: Resource,
        notes: Vec<Note>,
    },
    Recorded {
        resource: Resource,
        notes: Vec<Note>,
    },
    Amended {
        resource: Resource,
        notes: Vec<Note>,
    },
    Confirmed {
        resource: Resource,
    },
    CheckedIn {
        resource: Resource,
    },
    Cancelled {
        resource: Resource,
        reason: Option<String>,
    },
    NoShow {
        resource: Resource,
    },
    /// It is time to remind the patient of the time at which it stands.
    ReminderDue {
        resource: Resource,
    },
    EnteredInError {
        resource: Resource,
    },
}

impl DomainEvent for AppointmentEvent {
    fn event_type(&self) -> String {
        let name = match self {
            Self::Booked { .. } => "Appointment.Booked",
            Self::Recorded { .. } => "Appointment.Recorded",
            Self::Amended { .. } => "Appointment.Amended",
            Self::Confirmed { .. } => "Appointment.Confirmed",
            Self::CheckedIn { .. } => "Appointment.CheckedIn",
            Self::Cancelled { .. } => "Appointment.Cancelled",
            Self::NoShow { .. } => "Appointment.NoShow",
            Self::ReminderDue { .. } => "Appointment.ReminderDue",
            Self::EnteredInError { .. } => "Appointment.EnteredInError",
        };
        name.to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl Fact for AppointmentEvent {
    fn resource(&self) -> &Resource {
        match self {
            Self::Booked { resource, .. }
            | Self::Recorded { resource, .. }
            | Self::Amended { resource, .. }
            | Self::Confirmed { resource }
            | Self::CheckedIn { resource }
            | Self::Cancelled { resource, .. }
            | Self::NoShow { resource }
            | Self::ReminderDue { resource }
            | Self::EnteredInError { resource } => resource,
        }
    }

    fn notes(&self) -> &[Note] {
        match self {
            Self::Booked { notes, .. } | Self::Recorded { notes, .. } | Self::Amended { notes, .. } => notes,
            _ => &[],
        }
    }

    fn note(&mut self, note: Note) {
        if let Self::Booked { notes, .. } | Self::Recorded { notes, .. } | Self::Amended { notes, .. } = self {
            notes.push(note);
        }
    }
}
