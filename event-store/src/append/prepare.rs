//! From what a caller asks to what is sent: checked, hashed, sealed. Runs in the caller's task, so that sealing uses
//! every core and the writer only moves bytes.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::batch::Footprint;
use super::{Append, Claim, Expectation, IdempotencyKey};
use crate::envelope;
use crate::error::Error;
use crate::event::{Header, Metadata, NewEvent, now};
use crate::keyring::{Keyring, SubjectKey};
use crate::partition::partition_of;

/// The largest sealed event: below the topic's record limit of 4 MiB, with room for key and headers.
pub const EVENT_BYTES_MAX: usize = 3 * 1024 * 1024;
/// The largest append: some five times the largest bundle seen in practice.
pub const APPEND_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most events of one append.
pub const APPEND_EVENTS_MAX: usize = 50_000;
/// A large bundle lets other tasks run after this many seals.
const SEALS_PER_YIELD: usize = 64;

/// An append that is ready to be sent.
pub(crate) struct Prepared {
    pub key: Option<[u8; 32]>,
    /// Hashed with a key, as it is stored.
    pub fingerprint: [u8; 32],
    pub response: String,
    pub recorded_at: DateTime<Utc>,
    pub traceparent: Option<String>,
    pub streams: Vec<(String, String, i64)>,
    pub tails: Vec<(String, Uuid, i64)>,
    pub takes: Vec<Take>,
    pub releases: Vec<Release>,
    pub events: Vec<SealedNew>,
    /// Every partition whose head must be locked.
    pub lock: BTreeSet<i32>,
    pub footprint: Footprint,
}

/// A claim to be taken, hashed.
pub(crate) struct Take {
    pub claim: [u8; 32],
    pub kind: String,
    pub holder_type: String,
    pub holder_id: Uuid,
    pub partition: i32,
    /// The same append releases it: it changes hands.
    pub moved: bool,
}

/// A claim to be given up, hashed.
pub(crate) struct Release {
    pub claim: [u8; 32],
    pub holder_type: String,
    pub holder_id: Uuid,
}

/// A sealed event that has no position yet.
pub(crate) struct SealedNew {
    pub partition: i32,
    pub header: Header,
    pub aggregate_id: String,
    pub sealed: Vec<u8>,
}

/// Checks, hashes and seals one append.
pub(crate) async fn prepare(append: Append, keyring: &Keyring, partitions: i32) -> Result<Prepared, Error> {
    check(&append)?;
    let response = serde_json::to_string(&append.response).map_err(|_| Error::Invalid("the response is not JSON"))?;
    let takes = hash_takes(&append, keyring, partitions);
    let releases = hash_releases(&append, keyring);
    let events = seal_all(&append, keyring, partitions).await?;
    let mut prepared = Prepared {
        key: append.idempotency.as_ref().map(|key| idempotency_hash(keyring, key)),
        fingerprint: append.idempotency.as_ref().map_or([0; 32], |key| fingerprint_hash(keyring, key)),
        response,
        recorded_at: events.first().map_or_else(now, |event| event.header.recorded_at),
        traceparent: append.traceparent,
        streams: Vec::new(),
        tails: Vec::new(),
        takes,
        releases,
        lock: events.iter().map(|event| event.partition).collect(),
        events,
        footprint: Footprint::default(),
    };
    prepared.expect(append.expect, partitions);
    prepared.footprint = Footprint::of(&prepared);
    Ok(prepared)
}

impl Prepared {
    fn expect(&mut self, expectations: Vec<Expectation>, partitions: i32) {
        for expectation in expectations {
            match expectation {
                Expectation::Stream { aggregate_type, aggregate_id, sequence } => {
                    self.streams.push((aggregate_type, aggregate_id.to_string(), sequence));
                }
                Expectation::SubjectTail { subject, aggregate_type, position } => {
                    self.lock.insert(partition_of(subject, partitions));
                    self.tails.push((aggregate_type, subject, position));
                }
            }
        }
    }

    /// The sealed bytes, with an allowance for what goes with each event.
    pub(crate) fn bytes(&self) -> usize {
        const ROW_BYTES: usize = 256;
        self.response.len() + self.events.iter().map(|event| event.sealed.len() + ROW_BYTES).sum::<usize>()
    }
}

/// The keyed hash that a claim is stored as.
pub(crate) fn claim_hash(keyring: &Keyring, claim: &Claim) -> [u8; 32] {
    keyring.blind(&format!("claim/{}", claim.kind), &claim.value)
}

/// The keyed hash that an idempotency key is stored as.
pub(crate) fn idempotency_hash(keyring: &Keyring, key: &IdempotencyKey) -> [u8; 32] {
    keyring.blind(&format!("idempotency/{}", key.actor), &key.key)
}

/// The keyed hash that a request's fingerprint is stored as. The same request under another key has another one.
pub(crate) fn fingerprint_hash(keyring: &Keyring, key: &IdempotencyKey) -> [u8; 32] {
    let domain = format!("idempotency-fingerprint/{}", hex::encode(idempotency_hash(keyring, key)));
    keyring.blind(&domain, &hex::encode(key.fingerprint))
}

/// Every stream written must be expected where its first new event continues, and go on without a gap.
fn check(append: &Append) -> Result<(), Error> {
    if append.events.len() > APPEND_EVENTS_MAX {
        return Err(Error::Invalid("more events than one append may have"));
    }
    let mut expected = HashMap::new();
    for expectation in &append.expect {
        if let Expectation::Stream { aggregate_type, aggregate_id, sequence } = expectation
            && expected.insert((aggregate_type.as_str(), *aggregate_id), *sequence).is_some()
        {
            return Err(Error::Invalid("a stream is expected twice"));
        }
    }
    let mut subjects = HashMap::new();
    for event in &append.events {
        check_event(event, &mut expected, &mut subjects)?;
    }
    let mut claims = HashSet::new();
    if !append.take.iter().all(|take| claims.insert(&take.claim)) {
        return Err(Error::Invalid("a claim is taken twice"));
    }
    Ok(())
}

fn check_event<'a>(
    event: &'a NewEvent,
    expected: &mut HashMap<(&'a str, Uuid), i64>,
    subjects: &mut HashMap<(&'a str, Uuid), Uuid>,
) -> Result<(), Error> {
    let stream = (event.aggregate_type.as_str(), event.aggregate_id);
    let at = expected.get_mut(&stream).ok_or(Error::Invalid("a stream is written that is not expected"))?;
    if event.sequence != *at + 1 {
        return Err(Error::Invalid("an event does not continue its stream"));
    }
    *at += 1;
    if *subjects.entry(stream).or_insert(event.subject) != event.subject {
        return Err(Error::Invalid("a stream has events of two subjects"));
    }
    Ok(())
}

fn hash_takes(append: &Append, keyring: &Keyring, partitions: i32) -> Vec<Take> {
    let partition = |holder: Uuid| {
        let own = append.events.iter().find(|event| event.aggregate_id == holder).or(append.events.first());
        own.map_or(0, |event| partition_of(event.subject, partitions))
    };
    let hashed = append.take.iter().map(|take| Take {
        claim: claim_hash(keyring, &take.claim),
        kind: take.claim.kind.clone(),
        holder_type: take.holder_type.clone(),
        holder_id: take.holder_id,
        partition: partition(take.holder_id),
        moved: append.release.iter().any(|release| release.claim == take.claim),
    });
    hashed.collect()
}

fn hash_releases(append: &Append, keyring: &Keyring) -> Vec<Release> {
    let hashed = append.release.iter().map(|release| Release {
        claim: claim_hash(keyring, &release.claim),
        holder_type: release.holder_type.clone(),
        holder_id: release.holder_id,
    });
    hashed.collect()
}

async fn seal_all(append: &Append, keyring: &Keyring, partitions: i32) -> Result<Vec<SealedNew>, Error> {
    let subjects: Vec<_> = BTreeSet::from_iter(append.events.iter().map(|event| event.subject)).into_iter().collect();
    let keys = keyring.ensured(&subjects).await?;
    let recorded_at = now();
    let mut bytes = 0;
    let mut sealed = Vec::with_capacity(append.events.len());
    for (number, event) in append.events.iter().enumerate() {
        let key = keys.get(&event.subject).ok_or(Error::Invalid("a subject without a key"))?;
        let header = header(event, key, recorded_at, append.traceparent.clone());
        let event = seal_one(event, &append.metadata, key, header, partitions)?;
        bytes += event.sealed.len();
        within("an append", bytes, APPEND_BYTES_MAX)?;
        sealed.push(event);
        if number % SEALS_PER_YIELD == SEALS_PER_YIELD - 1 {
            tokio::task::yield_now().await;
        }
    }
    Ok(sealed)
}

fn seal_one(
    event: &NewEvent,
    metadata: &Metadata,
    key: &SubjectKey,
    header: Header,
    partitions: i32,
) -> Result<SealedNew, Error> {
    let plain = envelope::content(event, metadata).map_err(|_| Error::Invalid("the payload is not JSON"))?;
    let sealed = envelope::seal(key, &header, &Zeroizing::new(plain));
    within("a sealed event", sealed.len(), EVENT_BYTES_MAX)?;
    let partition = partition_of(header.subject, partitions);
    Ok(SealedNew { partition, aggregate_id: header.aggregate_id.to_string(), header, sealed })
}

fn header(event: &NewEvent, key: &SubjectKey, recorded_at: DateTime<Utc>, traceparent: Option<String>) -> Header {
    Header {
        aggregate_type: event.aggregate_type.clone(),
        aggregate_id: event.aggregate_id,
        sequence: event.sequence,
        subject: event.subject,
        event_type: event.event_type.clone(),
        event_version: event.event_version.clone(),
        key_id: key.id(),
        recorded_at,
        traceparent,
    }
}

fn within(what: &'static str, bytes: usize, limit: usize) -> Result<(), Error> {
    if bytes > limit { Err(Error::TooLarge { what, bytes, limit }) } else { Ok(()) }
}
