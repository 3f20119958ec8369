//! The fold: what is known of an emergency access after its events.

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::EventUpcaster;
use serde::{Deserialize, Serialize};

use super::{EmergencyAccessCommand, EmergencyAccessEvent, Error};
use crate::fhir::{Digest, Resource};
use crate::record::{Fact, Issued, Record};
use crate::types::ClaimChange;

/// An emergency access as its events left it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EmergencyAccess {
    pub(super) resource: Option<Resource>,
    /// What was first opened, to recognise a repeated request.
    pub(super) filed: Option<Digest>,
}

impl EmergencyAccess {
    pub(super) fn is_reviewed(&self) -> bool {
        self.resource.as_ref().is_some_and(|resource| resource.text("status") == Some("completed"))
    }
}

impl Aggregate for EmergencyAccess {
    const TYPE: &'static str = "EmergencyAccess";
    type Command = Issued<EmergencyAccessCommand>;
    type Event = EmergencyAccessEvent;
    type Error = Error;
    type Services = ();

    async fn handle(&mut self, command: Self::Command, (): &(), sink: &EventSink<Self>) -> Result<(), Error> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: EmergencyAccessEvent) {
        if let EmergencyAccessEvent::Opened { resource, .. } = &event {
            self.filed = Some(resource.digest());
        }
        self.resource = Some(event.resource().clone());
    }
}

impl Record for EmergencyAccess {
    type Action = EmergencyAccessCommand;

    fn decide(&self, issued: &Issued<EmergencyAccessCommand>) -> Result<Vec<EmergencyAccessEvent>, Error> {
        super::decide::decide(self, issued)
    }

    fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    fn claims(&self, _: &EmergencyAccessEvent) -> Vec<ClaimChange> {
        Vec::new()
    }

    fn record(resource: Resource) -> EmergencyAccessCommand {
        EmergencyAccessCommand::Open { resource }
    }

    /// What was opened is not opened otherwise: only a repetition passes.
    fn amend(resource: Resource) -> EmergencyAccessCommand {
        EmergencyAccessCommand::Open { resource }
    }

    fn retract() -> EmergencyAccessCommand {
        EmergencyAccessCommand::Retract
    }

    fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
        super::upcast::upcasters()
    }
}
