//! What a command's caller is told, now and on a retry.

use nexus_domain::types::Note;
use nexus_domain::{Fact, Record};
use nexus_event_store::Receipt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Standing;
use crate::refusal::{KeptRefusal, Refusal};

/// What is kept for a retry: ids, numbers and codes, nothing about the patient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub id: Uuid,
    /// The FHIR resource type.
    pub resource_type: String,
    pub sequence: i64,
    pub created: bool,
    pub notes: Vec<Note>,
}

/// What the store keeps of a command that was refused.
#[derive(Serialize, Deserialize)]
struct Refused {
    refused: KeptRefusal,
}

/// The outcome of an accepted command.
#[derive(Clone, Debug)]
pub struct Answer {
    pub told: Told,
    /// Where the events are; nothing if there were none to store.
    pub receipt: Option<Receipt>,
    /// This was answered before, to the same request.
    pub replayed: bool,
    /// Whether the events are in Kafka, if the caller asked to know.
    pub published: Option<bool>,
}

impl Told {
    /// The stream as it stands after these events.
    pub fn of<A: Record>(id: Uuid, standing: &Standing<A>, events: &[A::Event]) -> Self {
        let resource = events.last().map(Fact::resource).or_else(|| standing.state.resource());
        Self {
            id,
            resource_type: resource.map(|resource| resource.resource_type().to_owned()).unwrap_or_default(),
            sequence: standing.sequence + i64::try_from(events.len()).unwrap_or(i64::MAX),
            created: standing.sequence == 0,
            notes: events.iter().flat_map(|event| event.notes().to_vec()).collect(),
        }
    }

    /// What the store keeps under the idempotency key.
    pub fn to_json(&self) -> Result<Value, Refusal> {
        serde_json::to_value(self).map_err(|_| Refusal::Internal("an answer can't be written as JSON"))
    }
}

/// A refusal as the store keeps it under the idempotency key, if it is one to be kept.
pub fn refusal_to_json(refusal: &Refusal) -> Result<Option<Value>, Refusal> {
    let kept = refusal.to_kept().map(|refused| serde_json::to_value(Refused { refused }));
    kept.transpose().map_err(|_| Refusal::Internal("a refusal can't be written as JSON"))
}

impl Answer {
    /// The answer that was given to the same request before.
    ///
    /// # Errors
    /// If that answer was a refusal.
    pub fn replay(receipt: Receipt, response: Value) -> Result<Self, Refusal> {
        let unreadable = |_| Refusal::Internal("a stored answer can't be read");
        // A key that was used for a bundle and now comes with a command has another fingerprint, so one of these fits.
        if response.get("refused").is_some() {
            let Refused { refused } = serde_json::from_value(response).map_err(unreadable)?;
            return Err(Refusal::Again(Box::new(refused.into())));
        }
        let told = serde_json::from_value(response).map_err(unreadable)?;
        let receipt = Some(receipt).filter(|receipt| !receipt.positions.is_empty());
        Ok(Self { told, receipt, replayed: true, published: None })
    }
}
