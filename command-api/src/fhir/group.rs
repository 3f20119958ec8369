//! What is appended together: all entries of a transaction, or one entry of a batch.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use nexus_domain::types::{Claim, ClaimChange, ClaimKind, Note};
use nexus_event_store::{Append, Expectation, IdempotencyKey, NewEvent, ReleaseClaim, TakeClaim};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::call::Call;
use crate::executor::{stored_claim, stream_at};

/// What is told about one entry: ids, numbers and codes, nothing about the patient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub status: u16,
    #[serde(rename = "type")]
    pub resource_type: String,
    pub id: Uuid,
    /// How many events the resource has; nothing if nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// When the last of them was recorded, if that was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// Whether something was stored about a resource that was there before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub updated: bool,
}

/// A claim that an entry takes.
#[derive(Clone, Debug)]
pub struct Taking {
    pub entry: usize,
    pub claim: Claim,
    pub holder_id: Uuid,
    /// It is what the entry's `ifNoneExist` asks about: if somebody else holds it, the condition is met.
    pub conditional: bool,
}

/// Claims that turned out to be taken, and whose they are.
pub type TakenClaims = HashMap<Claim, Uuid>;

/// The parts of an append, and which entry each claim is from.
#[derive(Default)]
pub struct Group {
    pub events: Vec<NewEvent>,
    expect: Vec<Expectation>,
    take: Vec<TakeClaim>,
    /// The same claims, in the same order.
    takings: Vec<Taking>,
    release: Vec<ReleaseClaim>,
    claimed: HashMap<Claim, Uuid>,
    /// Streams and tails that are expected already.
    streams: HashSet<(&'static str, Uuid)>,
    tails: HashSet<Uuid>,
}

impl Group {
    /// Expects a stream to stand where it was seen, once.
    pub fn expect_stream(&mut self, aggregate_type: &'static str, id: Uuid, sequence: i64) {
        if self.streams.insert((aggregate_type, id)) {
            self.expect.push(stream_at(aggregate_type, id, sequence));
        }
    }

    /// Expects no newer event of a type for a subject.
    pub fn expect_tail(&mut self, subject: Uuid, aggregate_type: &str, position: i64) {
        if self.tails.insert(subject) {
            let aggregate_type = aggregate_type.to_owned();
            self.expect.push(Expectation::SubjectTail { subject, aggregate_type, position });
        }
    }

    /// Who of the group has taken a claim already.
    pub fn holder(&self, claim: &Claim) -> Option<Uuid> {
        self.claimed.get(claim).copied()
    }

    /// Adds what an entry does to the claims. `condition` is the claim that its `ifNoneExist` asks about.
    pub fn add_claims(
        &mut self,
        entry: usize,
        (holder_type, holder_id): (&str, Uuid),
        changes: Vec<ClaimChange>,
        condition: Option<&Claim>,
    ) {
        for change in changes {
            match change {
                ClaimChange::Take(claim) => {
                    if self.claimed.insert(claim.clone(), holder_id).is_none() {
                        let conditional = condition == Some(&claim);
                        self.takings.push(Taking { entry, claim: claim.clone(), holder_id, conditional });
                        let holder_type = holder_type.to_owned();
                        self.take.push(TakeClaim { claim: stored_claim(claim), holder_type, holder_id });
                    }
                }
                ClaimChange::Release(claim) => {
                    let holder_type = holder_type.to_owned();
                    self.release.push(ReleaseClaim { claim: stored_claim(claim), holder_type, holder_id });
                }
            }
        }
    }

    /// The append, and what it takes: its claims in their order.
    pub fn into_append(
        self,
        call: &Call,
        idempotency: Option<IdempotencyKey>,
        response: Value,
    ) -> (Append, Vec<Taking>) {
        let append = Append {
            idempotency,
            response,
            expect: self.expect,
            take: self.take,
            release: self.release,
            events: self.events,
            metadata: call.metadata.clone(),
            traceparent: call.traceparent.clone(),
        };
        (append, self.takings)
    }
}

impl Taking {
    /// Who else may turn out to hold it, or where else its bearers are noted.
    pub fn rivals(&self) -> Vec<Claim> {
        match self.claim.kind {
            ClaimKind::DirectoryIdentifier => self.claim.places(),
            ClaimKind::MedicalRecordNumber | ClaimKind::PractitionerSlot => vec![self.claim.clone()],
        }
    }
}
