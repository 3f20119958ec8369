//! The fold: what is known of an alert after its events.

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::EventUpcaster;
use serde::{Deserialize, Serialize};

use super::{AlertCommand, AlertEvent, Error};
use crate::early_warning::Risk;
use crate::fhir::Resource;
use crate::record::{Fact, Issued, Record};
use crate::types::ClaimChange;

/// An alert as its events left it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub(super) resource: Option<Resource>,
}

impl Alert {
    /// How urgent it is; nothing while nobody has to come.
    pub(super) fn risk(&self) -> Option<Risk> {
        self.resource.as_ref().and_then(super::risk_of)
    }
}

impl Aggregate for Alert {
    const TYPE: &'static str = "Alert";
    type Command = Issued<AlertCommand>;
    type Event = AlertEvent;
    type Error = Error;
    type Services = ();

    async fn handle(&mut self, command: Self::Command, (): &(), sink: &EventSink<Self>) -> Result<(), Error> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: AlertEvent) {
        self.resource = Some(event.resource().clone());
    }
}

impl Record for Alert {
    type Action = AlertCommand;

    fn decide(&self, issued: &Issued<AlertCommand>) -> Result<Vec<AlertEvent>, Error> {
        super::decide::decide(self, issued)
    }

    fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    fn claims(&self, _: &AlertEvent) -> Vec<ClaimChange> {
        Vec::new()
    }

    fn record(resource: Resource) -> AlertCommand {
        AlertCommand::Assess { resource }
    }

    fn amend(resource: Resource) -> AlertCommand {
        AlertCommand::Assess { resource }
    }

    fn retract() -> AlertCommand {
        AlertCommand::Retract
    }

    fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
        super::upcast::upcasters()
    }
}
