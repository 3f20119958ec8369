//! The fold: what is known of a medication order after its events.

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::EventUpcaster;
use serde::{Deserialize, Serialize};

use super::{Error, MedicationOrderCommand, MedicationOrderEvent};
use crate::fhir::{Digest, Resource};
use crate::record::{Fact, Issued, Record};
use crate::types::ClaimChange;

/// A medication order as its events left it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MedicationOrder {
    pub(super) resource: Option<Resource>,
    /// What was first recorded, to recognise a repeated recording.
    pub(super) filed: Option<Digest>,
    pub(super) step: Step,
}

/// How far the order has come, as its FHIR status says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// Not yet an order, or nobody knows how far it has come.
    #[default]
    Open,
    Active,
    OnHold,
    /// Stopped, or cancelled before it began.
    Stopped,
    Completed,
    EnteredInError,
}

impl Step {
    pub(super) fn of(resource: &Resource) -> Self {
        match resource.text("status") {
            Some("active") => Self::Active,
            Some("on-hold") => Self::OnHold,
            Some("stopped" | "cancelled") => Self::Stopped,
            Some("completed") => Self::Completed,
            Some("entered-in-error") => Self::EnteredInError,
            _ => Self::Open,
        }
    }
}

impl Aggregate for MedicationOrder {
    const TYPE: &'static str = "MedicationOrder";
    type Command = Issued<MedicationOrderCommand>;
    type Event = MedicationOrderEvent;
    type Error = Error;
    type Services = ();

    async fn handle(&mut self, command: Self::Command, (): &(), sink: &EventSink<Self>) -> Result<(), Error> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: MedicationOrderEvent) {
        if let MedicationOrderEvent::Prescribed { resource, .. } | MedicationOrderEvent::Recorded { resource, .. } =
            &event
        {
            self.filed = Some(resource.digest());
        }
        self.step = Step::of(event.resource());
        self.resource = Some(event.resource().clone());
    }
}

impl Record for MedicationOrder {
    type Action = MedicationOrderCommand;

    fn decide(&self, issued: &Issued<MedicationOrderCommand>) -> Result<Vec<MedicationOrderEvent>, Error> {
        super::decide::decide(self, issued)
    }

    fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    fn claims(&self, _: &MedicationOrderEvent) -> Vec<ClaimChange> {
        Vec::new()
    }

    fn record(resource: Resource) -> MedicationOrderCommand {
        MedicationOrderCommand::Record { resource, active_allergies: Vec::new() }
    }

    fn amend(resource: Resource) -> MedicationOrderCommand {
        MedicationOrderCommand::Amend { resource }
    }

    fn retract() -> MedicationOrderCommand {
        MedicationOrderCommand::MarkEnteredInError
    }

    fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
        super::upcast::upcasters()
    }
}
