//! The fold: what is known of an allergy after its events.

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::EventUpcaster;
use serde::{Deserialize, Serialize};

use super::form::{CLINICAL, VERIFICATION};
use super::{ActiveAllergy, AllergyCommand, AllergyEvent, Error};
use crate::fhir::{Digest, Resource, codings};
use crate::record::{Fact, Issued, Record};
use crate::types::ClaimChange;

/// An allergy as its events left it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Allergy {
    pub(super) resource: Option<Resource>,
    /// What was first recorded, to recognise a repeated recording.
    pub(super) filed: Option<Digest>,
    pub(super) status: Status,
}

/// Whether the patient has the allergy, as the resource's two status elements say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Status {
    #[default]
    Active,
    /// No longer a risk: inactive or resolved.
    Past,
    Refuted,
    EnteredInError,
}

impl Allergy {
    /// The allergy as far as orders must mind it; nothing if it is past, refuted or an error, or if it states that there
    /// is no allergy.
    pub fn active(&self) -> Option<ActiveAllergy> {
        let resource = self.resource.as_ref().filter(|_| self.status == Status::Active)?;
        ActiveAllergy::of(resource)
    }
}

impl Aggregate for Allergy {
    const TYPE: &'static str = "Allergy";
    type Command = Issued<AllergyCommand>;
    type Event = AllergyEvent;
    type Error = Error;
    type Services = ();

    async fn handle(&mut self, command: Self::Command, (): &(), sink: &EventSink<Self>) -> Result<(), Error> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: AllergyEvent) {
        if let AllergyEvent::Recorded { resource, .. } = &event {
            self.filed = Some(resource.digest());
        }
        self.status = status_of(event.resource());
        self.resource = Some(event.resource().clone());
    }
}

impl Record for Allergy {
    type Action = AllergyCommand;

    fn decide(&self, issued: &Issued<AllergyCommand>) -> Result<Vec<AllergyEvent>, Error> {
        super::decide::decide(self, issued)
    }

    fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    fn claims(&self, _: &AllergyEvent) -> Vec<ClaimChange> {
        Vec::new()
    }

    fn record(resource: Resource) -> AllergyCommand {
        AllergyCommand::Record { resource }
    }

    fn amend(resource: Resource) -> AllergyCommand {
        AllergyCommand::Amend { resource }
    }

    fn retract() -> AllergyCommand {
        AllergyCommand::MarkEnteredInError
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
        (_, Some("inactive" | "resolved")) => Status::Past,
        _ => Status::Active,
    }
}
