//! The fold: what is known of a directory entry after its events.

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::EventUpcaster;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DirectoryEntryCommand, DirectoryEntryEvent, Error};
use crate::fhir::{Digest, Resource, is_found_by_identifier};
use crate::record::{Fact, Issued, Record};
use crate::types::{Claim, ClaimChange};

/// A directory entry as its events left it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    pub(super) resource: Option<Resource>,
    /// What was first registered, to recognise a repeated registration.
    pub(super) filed: Option<Digest>,
}

impl Aggregate for DirectoryEntry {
    const TYPE: &'static str = "DirectoryEntry";
    type Command = Issued<DirectoryEntryCommand>;
    type Event = DirectoryEntryEvent;
    type Error = Error;
    type Services = ();

    async fn handle(&mut self, command: Self::Command, (): &(), sink: &EventSink<Self>) -> Result<(), Error> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: DirectoryEntryEvent) {
        if let DirectoryEntryEvent::Registered { resource, .. } = &event {
            self.filed = Some(resource.digest());
        }

        self.resource = Some(event.resource().clone());
    }
}

impl Record for DirectoryEntry {
    type Action = DirectoryEntryCommand;

    fn decide(&self, issued: &Issued<DirectoryEntryCommand>) -> Result<Vec<DirectoryEntryEvent>, Error> {
        super::decide::decide(self, issued)
    }

    fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    /// A retired entry keeps its identifiers: history still refers to it, and nobody else may take its place.
    fn claims(&self, event: &DirectoryEntryEvent) -> Vec<ClaimChange> {
        let before = self.resource.as_ref().map(identifiers).unwrap_or_default();
        let after = identifiers(event.resource());
        let given_up = before.iter().filter(|claim| !after.contains(claim)).cloned().map(ClaimChange::Release);
        let taken = after.iter().filter(|claim| !before.contains(claim)).cloned().map(ClaimChange::Take);
        given_up.chain(taken).collect()
    }

    fn record(resource: Resource) -> DirectoryEntryCommand {
        DirectoryEntryCommand::Register { resource }
    }

    fn amend(resource: Resource) -> DirectoryEntryCommand {
        DirectoryEntryCommand::Update { resource }
    }

    fn retract() -> DirectoryEntryCommand {
        DirectoryEntryCommand::Retire
    }

    fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
        super::upcast::upcasters()
    }
}

/// The claims on an entry's business identifiers, each once, if its type is found by them. One without a system or a
/// value claims nothing.
fn identifiers(resource: &Resource) -> Vec<Claim> {
    let mut claims = Vec::new();
    if !is_found_by_identifier(resource.resource_type()) {
        return claims;
    }
    for identifier in resource.items("identifier") {
        let text = |name: &str| identifier.get(name).and_then(Value::as_str);
        if let (Some(system), Some(value)) = (text("system"), text("value")) {
            let claim = Claim::directory_identifier(resource.resource_type(), system, value);
            if !claims.contains(&claim) {
                claims.push(claim);
            }
        }
    }
    claims
}
