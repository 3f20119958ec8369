//! The fold: what is known of an encounter after its events.

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::EventUpcaster;
use serde::{Deserialize, Serialize};

use super::{EncounterCommand, EncounterEvent, Error};
use crate::fhir::{Digest, Resource};
use crate::record::{Fact, Issued, Record};
use crate::types::ClaimChange;

/// An encounter as its events left it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Encounter {
    pub(super) resource: Option<Resource>,
    /// What was first recorded, to recognise a repeated recording.
    pub(super) filed: Option<Digest>,
    pub(super) step: Step,
}

/// How far an encounter is, in the order in which the steps are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Step {
    /// Planned, arrived or triaged.
    #[default]
    Expected,
    /// In progress or on leave.
    InProgress,
    Finished,
    Cancelled,
    EnteredInError,
}

impl Step {
    /// What the status of a resource says. An unknown one gets the benefit of the doubt: anything may follow.
    pub(super) fn of(resource: &Resource) -> Self {
        match resource.text("status") {
            Some("in-progress" | "onleave") => Self::InProgress,
            Some("finished") => Self::Finished,
            Some("cancelled") => Self::Cancelled,
            Some("entered-in-error") => Self::EnteredInError,
            _ => Self::Expected,
        }
    }
}

impl Aggregate for Encounter {
    const TYPE: &'static str = "Encounter";
    type Command = Issued<EncounterCommand>;
    type Event = EncounterEvent;
    type Error = Error;
    type Services = ();

    async fn handle(&mut self, command: Self::Command, (): &(), sink: &EventSink<Self>) -> Result<(), Error> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: EncounterEvent) {
        if let EncounterEvent::Started { resource, .. } | EncounterEvent::Recorded { resource, .. } = &event {
            self.filed = Some(resource.digest());
        }
        self.step = Step::of(event.resource());
        self.resource = Some(event.resource().clone());
    }
}

impl Record for Encounter {
    type Action = EncounterCommand;

    fn decide(&self, issued: &Issued<EncounterCommand>) -> Result<Vec<EncounterEvent>, Error> {
        super::decide::decide(self, issued)
    }

    fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    fn claims(&self, _: &EncounterEvent) -> Vec<ClaimChange> {
        Vec::new()
    }

    fn record(resource: Resource) -> EncounterCommand {
        EncounterCommand::Record { resource }
    }

    fn amend(resource: Resource) -> EncounterCommand {
        EncounterCommand::Amend { resource }
    }

    fn retract() -> EncounterCommand {
        EncounterCommand::MarkEnteredInError
    }

    fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
        super::upcast::upcasters()
    }
}
