//! The fold: what is known of an observation after its events.

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::EventUpcaster;
use serde::{Deserialize, Serialize};

use super::{Error, ObservationCommand, ObservationEvent};
use crate::fhir::{Digest, Resource};
use crate::record::{Fact, Issued, Record};
use crate::types::ClaimChange;

/// A condition as its events left it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    pub(super) resource: Option<Resource>,
    /// What was first recorded, to recognise a repeated recording.
    pub(super) filed: Option<Digest>,
}

impl Observation {
    pub(super) fn status(&self) -> Option<&str> {
        self.resource.as_ref().and_then(|resource| resource.text("status"))
    }
}

impl Aggregate for Observation {
    const TYPE: &'static str = "Observation";
    type Command = Issued<ObservationCommand>;
    type Event = ObservationEvent;
    type Error = Error;
    type Services = ();

    async fn handle(&mut self, command: Self::Command, (): &(), sink: &EventSink<Self>) -> Result<(), Error> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ObservationEvent) {
        if let ObservationEvent::Recorded { resource, .. } = &event {
            self.filed = Some(resource.digest());
        }
        self.resource = Some(event.resource().clone());
    }
}

impl Record for Observation {
    type Action = ObservationCommand;

    fn decide(&self, issued: &Issued<ObservationCommand>) -> Result<Vec<ObservationEvent>, Error> {
        super::decide::decide(self, issued)
    }

    fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    fn claims(&self, _: &ObservationEvent) -> Vec<ClaimChange> {
        Vec::new()
    }

    fn record(resource: Resource) -> ObservationCommand {
        ObservationCommand::Record { resource }
    }

    fn amend(resource: Resource) -> ObservationCommand {
        ObservationCommand::Amend { resource }
    }

    fn retract() -> ObservationCommand {
        ObservationCommand::MarkEnteredInError
    }

    fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
        super::upcast::upcasters()
    }
}
