//! The fold: what is known of a consent after its events.

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::EventUpcaster;
use serde::{Deserialize, Serialize};

use super::{ConsentCommand, ConsentEvent, Error};
use crate::fhir::{Digest, Resource};
use crate::record::{Fact, Issued, Record};
use crate::types::ClaimChange;

/// A consent as its events left it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Consent {
    pub(super) resource: Option<Resource>,
    /// What was first granted, to recognise a repeated grant.
    pub(super) filed: Option<Digest>,
    pub(super) status: Status,
}

/// Whether the consent holds, as its FHIR status says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Status {
    /// Drafted or proposed, not yet given.
    #[default]
    Pending,
    Active,
    Rejected,
    /// Withdrawn, or over.
    Inactive,
    EnteredInError,
}

impl Status {
    pub(super) fn of(resource: &Resource) -> Self {
        match resource.text("status") {
            Some("active") => Self::Active,
            Some("rejected") => Self::Rejected,
            Some("inactive") => Self::Inactive,
            Some("entered-in-error") => Self::EnteredInError,
            _ => Self::Pending,
        }
    }
}

impl Aggregate for Consent {
    const TYPE: &'static str = "Consent";
    type Command = Issued<ConsentCommand>;
    type Event = ConsentEvent;
    type Error = Error;
    type Services = ();

    async fn handle(&mut self, command: Self::Command, (): &(), sink: &EventSink<Self>) -> Result<(), Error> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ConsentEvent) {
        if let ConsentEvent::Granted { resource, .. } = &event {
            self.filed = Some(resource.digest());
        }
        self.status = Status::of(event.resource());
        self.resource = Some(event.resource().clone());
    }
}

impl Record for Consent {
    type Action = ConsentCommand;

    fn decide(&self, issued: &Issued<ConsentCommand>) -> Result<Vec<ConsentEvent>, Error> {
        super::decide::decide(self, issued)
    }

    fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    fn claims(&self, _: &ConsentEvent) -> Vec<ClaimChange> {
        Vec::new()
    }

    fn record(resource: Resource) -> ConsentCommand {
        ConsentCommand::Grant { resource }
    }

    fn amend(resource: Resource) -> ConsentCommand {
        ConsentCommand::Amend { resource }
    }

    fn retract() -> ConsentCommand {
        ConsentCommand::Withdraw { reason: None }
    }

    fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
        super::upcast::upcasters()
    }
}
