//! The fold: what is known of a clinical record after its events.

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::EventUpcaster;
use serde::{Deserialize, Serialize};

use super::retraction::is_retracted;
use super::{ClinicalRecordCommand, ClinicalRecordEvent, Error};
use crate::fhir::{Digest, Resource};
use crate::record::{Fact, Issued, Record};
use crate::types::ClaimChange;

/// A clinical record as its events left it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClinicalRecord {
    pub(super) resource: Option<Resource>,
    /// What was first filed, to recognise a repeated filing.
    pub(super) filed: Option<Digest>,
    pub(super) retracted: bool,
}

impl Aggregate for ClinicalRecord {
    const TYPE: &'static str = "ClinicalRecord";
    type Command = Issued<ClinicalRecordCommand>;
    type Event = ClinicalRecordEvent;
    type Error = Error;
    type Services = ();

    async fn handle(&mut self, command: Self::Command, (): &(), sink: &EventSink<Self>) -> Result<(), Error> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ClinicalRecordEvent) {
        if let ClinicalRecordEvent::Filed { resource, .. } = &event {
            self.filed = Some(resource.digest());
        }
        self.retracted = is_retracted(event.resource());
        self.resource = Some(event.resource().clone());
    }
}

impl Record for ClinicalRecord {
    type Action = ClinicalRecordCommand;

    fn decide(&self, issued: &Issued<ClinicalRecordCommand>) -> Result<Vec<ClinicalRecordEvent>, Error> {
        super::decide::decide(self, issued)
    }

    fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    fn claims(&self, _: &ClinicalRecordEvent) -> Vec<ClaimChange> {
        Vec::new()
    }

    fn record(resource: Resource) -> ClinicalRecordCommand {
        ClinicalRecordCommand::File { resource }
    }

    fn amend(resource: Resource) -> ClinicalRecordCommand {
        ClinicalRecordCommand::Amend { resource }
    }

    fn retract() -> ClinicalRecordCommand {
        ClinicalRecordCommand::Retract
    }

    fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
        super::upcast::upcasters()
    }
}
