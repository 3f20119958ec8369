//! The fold: what is known of a condition after its events.

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::EventUpcaster;
use serde::{Deserialize, Serialize};

use super::decide::{CLINICAL, VERIFICATION};
use super::{ConditionCommand, ConditionEvent, Error};
use crate::fhir::{Digest, Resource, codings};
use crate::record::{Fact, Issued, Record};
use crate::types::ClaimChange;

/// A condition as its events left it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    pub(super) resource: Option<Resource>,
    /// What was first recorded, to recognise a repeated recording.
    pub(super) filed: Option<Digest>,
    pub(super) status: Status,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Status {
    /// Not over for good: one that is in remission or inactive may still be resolved.
    #[default]
    Open,
    Resolved,
    Refuted,
    EnteredInError,
}

impl Aggregate for Condition {
    const TYPE: &'static str = "Condition";
    type Command = Issued<ConditionCommand>;
    type Event = ConditionEvent;
    type Error = Error;
    type Services = ();

    async fn handle(&mut self, command: Self::Command, (): &(), sink: &EventSink<Self>) -> Result<(), Error> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ConditionEvent) {
        if let ConditionEvent::Recorded { resource, .. } = &event {
            self.filed = Some(resource.digest());
        }
        self.status = status_of(event.resource());
        self.resource = Some(event.resource().clone());
    }
}

impl Record for Condition {
    type Action = ConditionCommand;

    fn decide(&self, issued: &Issued<ConditionCommand>) -> Result<Vec<ConditionEvent>, Error> {
        super::decide::decide(self, issued)
    }

    fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    fn claims(&self, _: &ConditionEvent) -> Vec<ClaimChange> {
        Vec::new()
    }

    fn record(resource: Resource) -> ConditionCommand {
        ConditionCommand::Record { resource }
    }

    fn amend(resource: Resource) -> ConditionCommand {
        ConditionCommand::Amend { resource }
    }

    fn retract() -> ConditionCommand {
        ConditionCommand::MarkEnteredInError
    }

    fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
        super::upcast::upcasters()
    }
}

pub(super) fn status_of(resource: &Resource) -> Status {
    let code = |element: &str, system: &str| {
        codings(resource.get(element)).into_iter().find(|coding| coding.system == system).map(|coding| coding.code)
    };
    match (code("verificationStatus", VERIFICATION).as_deref(), code("clinicalStatus", CLINICAL).as_deref()) {
        (Some("entered-in-error"), _) => Status::EnteredInError,
        (Some("refuted"), _) => Status::Refuted,
        (_, Some("resolved")) => Status::Resolved,
        _ => Status::Open,
    }
}
