//! The fold: what is known of an appointment after its events.

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::EventUpcaster;
use serde::{Deserialize, Serialize};

use super::slots::{slots, time_of};
use super::{AppointmentCommand, AppointmentEvent, Error};
use crate::fhir::{Digest, Resource};
use crate::record::{Fact, Issued, Record};
use crate::types::{Claim, ClaimChange, Note, RuleError};

/// An appointment as its events left it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Appointment {
    pub(super) resource: Option<Resource>,
    /// What was first recorded, to recognise a repeated recording.
    pub(super) filed: Option<Digest>,
    pub(super) step: Step,
    /// Whether the practitioners' time is claimed for this appointment: history may be booked over another one, whose
    /// claims must not be given up with it.
    pub(super) holds_slots: bool,
    /// The start of which the patient was last reminded.
    pub(super) reminded_of: Option<DateTime<Utc>>,
}

/// How far an appointment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// Proposed, pending or on a waiting list.
    #[default]
    Proposed,
    Booked,
    /// Arrived or checked in.
    CheckedIn,
    Fulfilled,
    Cancelled,
    NoShow,
    EnteredInError,
}

impl Step {
    /// What the status of a resource says.
    pub(super) fn of(resource: &Resource) -> Self {
        match resource.text("status") {
            Some("booked") => Self::Booked,
            Some("arrived" | "checked-in") => Self::CheckedIn,
            Some("fulfilled") => Self::Fulfilled,
            Some("cancelled") => Self::Cancelled,
            Some("noshow") => Self::NoShow,
            Some("entered-in-error") => Self::EnteredInError,
            _ => Self::Proposed,
        }
    }
}

impl Appointment {
    /// The time that is claimed for this appointment.
    fn held(&self) -> Vec<Claim> {
        self.resource.as_ref().filter(|_| self.holds_slots).map(slots).unwrap_or_default()
    }

    /// Whether the time of the event's resource is claimed once the event has happened.
    fn holds_after(&self, event: &AppointmentEvent) -> bool {
        match event {
            AppointmentEvent::Booked { notes, .. } | AppointmentEvent::Recorded { notes, .. } => may_claim(notes),
            AppointmentEvent::Amended { resource, notes } => {
                let before = self.resource.as_ref().map(slots).unwrap_or_default();
                if before.is_empty() || before != slots(resource) { may_claim(notes) } else { self.holds_slots }
            }
            AppointmentEvent::Confirmed { .. } => true,
            AppointmentEvent::CheckedIn { .. } | AppointmentEvent::ReminderDue { .. } => self.holds_slots,
            AppointmentEvent::Cancelled { .. }
            | AppointmentEvent::NoShow { .. }
            | AppointmentEvent::EnteredInError { .. } => false,
        }
    }
}

fn may_claim(notes: &[Note]) -> bool {
    !notes.iter().any(|note| note.rule == Error::SlotTaken.code() || note.rule == Error::SlotUnclaimed.code())
}

impl Aggregate for Appointment {
    const TYPE: &'static str = "Appointment";
    type Command = Issued<AppointmentCommand>;
    type Event = AppointmentEvent;
    type Error = Error;
    type Services = ();

    async fn handle(&mut self, command: Self::Command, (): &(), sink: &EventSink<Self>) -> Result<(), Error> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: AppointmentEvent) {
        if let AppointmentEvent::Booked { resource, .. } | AppointmentEvent::Recorded { resource, .. } = &event {
            self.filed = Some(resource.digest());
        }
        if let AppointmentEvent::ReminderDue { resource } = &event {
            self.reminded_of = time_of(resource).map(|(start, _)| start);
        }
        self.holds_slots = self.holds_after(&event);
        self.step = Step::of(event.resource());
        self.resource = Some(event.resource().clone());
    }
}

impl Record for Appointment {
    type Action = AppointmentCommand;

    fn decide(&self, issued: &Issued<AppointmentCommand>) -> Result<Vec<AppointmentEvent>, Error> {
        super::decide::decide(self, issued)
    }

    fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    fn claims(&self, event: &AppointmentEvent) -> Vec<ClaimChange> {
        let before = self.held();
        let after = if self.holds_after(event) { slots(event.resource()) } else { Vec::new() };
        let dropped = before.iter().filter(|claim| !after.contains(claim)).cloned().map(ClaimChange::Release);
        let added = after.iter().filter(|claim| !before.contains(claim)).cloned().map(ClaimChange::Take);
        dropped.chain(added).collect()
    }

    fn record(resource: Resource) -> AppointmentCommand {
        AppointmentCommand::Record { resource, slot_taken: false }
    }

    fn amend(resource: Resource) -> AppointmentCommand {
        AppointmentCommand::Amend { resource }
    }

    fn retract() -> AppointmentCommand {
        AppointmentCommand::MarkEnteredInError
    }

    fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
        super::upcast::upcasters()
    }
}
