//! The fold: what is known of a patient after the events.

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::EventUpcaster;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{ErasureRequest, Error, LegalHold, PatientCommand, PatientEvent};
use crate::common::parsed_time;
use crate::fhir::{Digest, FhirDateTime, Reference, Resource, codings};
use crate::record::{Fact, Issued, PatientFacts, Record};
use crate::types::{Claim, ClaimChange};

/// A patient's record as its events left it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Patient {
    pub(super) resource: Option<Resource>,
    /// What was first registered, to recognise a repeated registration.
    pub(super) filed: Option<Digest>,
    pub(super) entered_in_error: bool,
    pub(super) hold: Option<LegalHold>,
    pub(super) erasure: Option<ErasureRequest>,
    pub(super) erased: bool,
}

impl Patient {
    /// What other aggregates of this patient need to know. A record entered in error counts as none, as does an erased one.
    pub fn facts(&self) -> PatientFacts {
        let Some(resource) = self.resource.as_ref().filter(|_| !self.entered_in_error && !self.erased) else {
            return PatientFacts::default();
        };
        PatientFacts {
            exists: true,
            deceased_at: death(resource).map(|time| time.latest()),
            deceased: is_dead(resource),
            replaced: survivor(resource).is_some(),
        }
    }

    /// The record that has taken the place of this one.
    pub fn replaced_by(&self) -> Option<Uuid> {
        self.resource.as_ref().and_then(survivor)
    }
}

impl Aggregate for Patient {
    const TYPE: &'static str = "Patient";
    type Command = Issued<PatientCommand>;
    type Event = PatientEvent;
    type Error = Error;
    type Services = ();

    async fn handle(&mut self, command: Self::Command, (): &(), sink: &EventSink<Self>) -> Result<(), Error> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: PatientEvent) {
        match &event {
            PatientEvent::Registered { resource, .. } => self.filed = Some(resource.digest()),
            PatientEvent::EnteredInError { .. } => self.entered_in_error = true,
            PatientEvent::LegalHoldPlaced { hold, .. } => self.hold = Some(hold.clone()),
            PatientEvent::LegalHoldReleased { .. } => self.hold = None,
            PatientEvent::ErasureRequested { request, .. } => self.erasure = Some(request.clone()),
            PatientEvent::ErasureWithdrawn { .. } => self.erasure = None,
            PatientEvent::Erased { .. } => *self = Self { erased: true, ..Self::default() },
            PatientEvent::Updated { .. } | PatientEvent::Died { .. } | PatientEvent::LinkedAsDuplicate { .. } => {}
        }
        self.resource = Some(event.resource().clone());
    }
}

impl Record for Patient {
    type Action = PatientCommand;

    fn decide(&self, issued: &Issued<PatientCommand>) -> Result<Vec<PatientEvent>, Error> {
        super::decide::decide(self, issued)
    }

    fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    /// A record holds the medical record numbers that its resource names. A duplicate keeps its own, so that whoever has
    /// one of them finds the link; its survivor [may bear](super::may_share_number) them beside it. A record entered in error has given them up, an erased one names none.
    fn claims(&self, event: &PatientEvent) -> Vec<ClaimChange> {
        let standing = self.resource.as_ref().filter(|_| !self.entered_in_error);
        let before = standing.map(medical_record_numbers).unwrap_or_default();
        let after = match event {
            PatientEvent::EnteredInError { .. } => Vec::new(),
            _ if self.entered_in_error => Vec::new(),
            _ => medical_record_numbers(event.resource()),
        };
        let dropped = before.iter().filter(|claim| !after.contains(claim)).cloned().map(ClaimChange::Release);
        let added = after.iter().filter(|claim| !before.contains(claim)).cloned().map(ClaimChange::Take);
        dropped.chain(added).collect()
    }

    fn record(resource: Resource) -> PatientCommand {
        PatientCommand::Register { resource }
    }

    fn amend(resource: Resource) -> PatientCommand {
        PatientCommand::Update { resource }
    }

    fn retract() -> PatientCommand {
        PatientCommand::MarkEnteredInError
    }

    fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
        super::upcast::upcasters()
    }
}

/// Whether the identifier is a medical record number: HL7 table 0203 code `MR`.
pub(super) fn is_medical_record_number(identifier: &Value) -> bool {
    codings(identifier.get("type")).iter().any(|coding| coding.code == "MR")
}

pub(super) fn medical_record_numbers(resource: &Resource) -> Vec<Claim> {
    let mut claims = Vec::new();
    for identifier in resource.items("identifier").iter().filter(|identifier| is_medical_record_number(identifier)) {
        let text = |name: &str| identifier.get(name).and_then(Value::as_str);
        if let (Some(system), Some(value)) = (text("system"), text("value")) {
            let claim = Claim::medical_record_number(system, value);
            if !claims.contains(&claim) {
                claims.push(claim);
            }
        }
    }
    claims
}

/// When the patient died, if that is known.
pub(super) fn death(resource: &Resource) -> Option<FhirDateTime> {
    parsed_time(resource, "/deceasedDateTime")
}

pub(super) fn is_dead(resource: &Resource) -> bool {
    resource.get("deceasedDateTime").is_some() || resource.get("deceasedBoolean") == Some(&Value::Bool(true))
}

/// The record that replaced this one.
pub(super) fn survivor(resource: &Resource) -> Option<Uuid> {
    let replaced_by = |link: &&Value| link.get("type").and_then(Value::as_str) == Some("replaced-by");
    let reference = resource.items("link").iter().find(replaced_by)?.pointer("/other/reference")?.as_str()?;
    match Reference::parse(reference) {
        Reference::Resource { resource_type, id } if resource_type == "Patient" => Some(id),
        _ => None,
    }
}
