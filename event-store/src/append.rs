//! Appending: what a command asks of the log, and what it is told.
//!
//! [`EventLog::append`](crate::EventLog::append) validates and seals in the caller's task, then queues; one writer task
//! per process sends whatever has gathered as one function call, so that one durable write serves many commands.

pub(crate) mod batch;
mod identity;
mod prepare;
mod restored;
mod statement;
pub(crate) mod writer;

use uuid::Uuid;

use crate::event::{Metadata, NewEvent};
use crate::position::Receipt;

pub use prepare::{APPEND_BYTES_MAX, APPEND_EVENTS_MAX, EVENT_BYTES_MAX};
pub(crate) use prepare::{claim_hash, fingerprint_hash, idempotency_hash, prepare};
pub use restored::{ClaimRules, Claimed};
pub(crate) use statement::read_receipt;

/// Something that must still be true when the events are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// The stream stands at exactly this sequence (0: does not exist). Streams written by the same append need one too.
    Stream { aggregate_type: String, aggregate_id: Uuid, sequence: i64 },
    /// No event of this aggregate type was appended for this subject after this position of its partition.
    SubjectTail { subject: Uuid, aggregate_type: String, position: i64 },
}

/// A fact that may be true only once, such as who has a medical record number.
/// The value leaves the process only as a keyed hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    pub kind: String,
    pub value: String,
}

/// A claim to be taken, and who will hold it. Taking a claim that the same holder already has succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeClaim {
    pub claim: Claim,
    pub holder_type: String,
    pub holder_id: Uuid,
}

/// A claim to be given up, and who holds it. A claim that is not this holder's stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseClaim {
    pub claim: Claim,
    pub holder_type: String,
    pub holder_id: Uuid,
}

/// What makes a retry recognisable. Actor and key, and the fingerprint of the request, are stored only as keyed hashes:
/// a small request could be guessed from a plain one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    pub actor: String,
    pub key: String,
    pub fingerprint: [u8; 32],
}

/// One command's events, with everything that has to hold for them to be stored. All or nothing.
#[derive(Clone, Debug)]
pub struct Append {
    pub idempotency: Option<IdempotencyKey>,
    /// What a retry gets back, beside the positions. Stored in the clear: free of patient data.
    pub response: serde_json::Value,
    pub expect: Vec<Expectation>,
    pub take: Vec<TakeClaim>,
    pub release: Vec<ReleaseClaim>,
    pub events: Vec<NewEvent>,
    pub metadata: Metadata,
    pub traceparent: Option<String>,
}

/// What became of one append. None of these is an error: each is an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The events are durable.
    Appended(Receipt),
    /// An expectation did not hold.
    Conflict { aggregate_type: String, aggregate_id_or_subject: Uuid },
    /// Somebody else holds a claim; `index` points into [`Append::take`].
    ClaimTaken { kind: String, index: usize, holder_type: String, holder_id: Uuid },
    /// The idempotency key was seen before: nothing was stored, and this is what was answered then.
    Duplicate { same_request: bool, receipt: Receipt, response: serde_json::Value },
}
