//! What is appended together: all entries of a transaction, or one entry of a batch.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use nexus_domain::types::{Claim, ClaimChange, Note};
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
}

/// The parts of an append, and which entry each claim is from.
#[derive(Default)]
pub struct Group {
    pub events: Vec<NewEvent>,
    expect: Vec<Expectation>,
    take: Vec<TakeClaim>,
    /// For each claim taken: the entry.
    taken_by: Vec<usize>,
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

    /// A claim that another entry of the group has taken already.
    pub fn taken_here<'a>(&self, changes: &'a [ClaimChange], holder: Uuid) -> Option<&'a Claim> {
        changes.iter().find_map(|change| match change {
            ClaimChange::Take(claim) if self.claimed.get(claim).is_some_and(|other| *other != holder) => Some(claim),
            _ => None,
        })
    }

    /// Adds what an entry does to the claims.
    pub fn add_claims(&mut self, index: usize, holder_type: &str, holder_id: Uuid, changes: Vec<ClaimChange>) {
        for change in changes {
            match change {
                ClaimChange::Take(claim) => {
                    if self.claimed.insert(claim.clone(), holder_id).is_none() {
                        let holder_type = holder_type.to_owned();
                        self.take.push(TakeClaim { claim: stored_claim(claim), holder_type, holder_id });
                        self.taken_by.push(index);
                    }
                }
                ClaimChange::Release(claim) => {
                    let holder_type = holder_type.to_owned();
                    self.release.push(ReleaseClaim { claim: stored_claim(claim), holder_type, holder_id });
                }
            }
        }
    }

    /// The entry that wanted a claim, by the claim's place among those taken.
    pub fn entry_of(taken_by: &[usize], claim_index: usize) -> usize {
        taken_by.get(claim_index).copied().unwrap_or_default()
    }

    /// The append, and for each claim taken its entry.
    pub fn into_append(
        self,
        call: &Call,
        idempotency: Option<IdempotencyKey>,
        response: Value,
    ) -> (Append, Vec<usize>) {
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
        (append, self.taken_by)
    }
}
