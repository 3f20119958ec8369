//! From sealed events to typed ones: the keys of a batch in one round trip, the decryption off the async threads.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use nexus_domain::ReadError;
use nexus_event_store::{ERASED, EnvelopeError, KeyError, SealedEvent, SubjectKey, envelope};
use uuid::Uuid;

use super::fault::Fault;
use super::host::Fold;
use crate::read_model::{Event, ReadModel};

/// Batches up to this size are opened where they are; moving them to another thread costs more.
const OPEN_INLINE_MAX: usize = 8;

/// The events of a batch that the read model wants, opened as far as they can be.
#[derive(Default)]
pub(crate) struct Opened {
    pub(crate) events: Vec<Event>,
    pub(crate) unreadable: Vec<Unreadable>,
    /// Erased subjects: their events count as applied and have no effect. Beside each, the position of the event that erased
    /// it, if it is in this batch; of the others the key is gone.
    pub(crate) erased: BTreeMap<Uuid, Option<i64>>,
}

impl Opened {
    /// Whether nothing of the batch is any business of the read model's.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.unreadable.is_empty() && self.erased.is_empty()
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Unreadable {
    pub(crate) position: i64,
    pub(crate) subject: Uuid,
    pub(crate) reason: &'static str,
}

type Keys = HashMap<Uuid, Result<SubjectKey, KeyError>>;

/// Opens what the read model wants. Fails only for causes that may pass.
///
/// Whoever is erased in this batch is erased for the whole of it, whichever types the read model wants and whether the key is
/// still there: the header says so.
pub(crate) async fn open(fold: &Fold, sealed: &Arc<[SealedEvent]>) -> Result<Opened, Fault> {
    let erasing = sealed.iter().filter(|event| event.header.event_type == ERASED);
    let erased: BTreeMap<Uuid, Option<i64>> =
        erasing.map(|event| (event.header.subject, Some(event.position))).collect();
    let mut opened = open_wanted(fold, sealed, &erased).await?;
    for (subject, position) in erased {
        // The next look at the key store finds none.
        fold.keyring.forget(subject);
        opened.erased.insert(subject, position);
    }
    Ok(opened)
}

async fn open_wanted(
    fold: &Fold,
    sealed: &Arc<[SealedEvent]>,
    erased: &BTreeMap<Uuid, Option<i64>>,
) -> Result<Opened, Fault> {
    let is_wanted = |event: &SealedEvent| {
        fold.model.wants(&event.header.aggregate_type) && !erased.contains_key(&event.header.subject)
    };
    let wanted: Vec<usize> = (0..sealed.len()).filter(|index| is_wanted(&sealed[*index])).collect();
    if wanted.is_empty() {
        return Ok(Opened::default());
    }
    let keys = fold.keyring.keys_of(wanted.iter().map(|index| &sealed[*index].header)).await;
    if keys.values().any(|key| matches!(key, Err(KeyError::Unavailable))) {
        return Err(Fault::Passing("key store".to_owned()));
    }
    if wanted.len() <= OPEN_INLINE_MAX {
        return Ok(open_all(fold.model.as_ref(), sealed, &wanted, &keys));
    }
    let (model, sealed) = (fold.model.clone(), sealed.clone());
    tokio::task::spawn_blocking(move || open_all(model.as_ref(), &sealed, &wanted, &keys))
        .await
        .map_err(|_| Fault::Passing("opening was interrupted".to_owned()))
}

fn open_all(model: &dyn ReadModel, sealed: &[SealedEvent], wanted: &[usize], keys: &Keys) -> Opened {
    let mut opened = Opened::default();
    for index in wanted {
        let sealed = &sealed[*index];
        let subject = sealed.header.subject;
        // An upcaster that panics is a fault of its event, not of the partition.
        let outcome = catch_unwind(AssertUnwindSafe(|| open_one(model, sealed, keys.get(&subject))));
        match outcome.unwrap_or(Err(Some("event.panicked"))) {
            Ok(events) => opened.events.extend(events),
            Err(None) => drop(opened.erased.insert(subject, None)),
            Err(Some(reason)) => {
                opened.unreadable.push(Unreadable { position: sealed.position, subject, reason });
            }
        }
    }
    opened
}

/// An event as the program sees it today, or the reason why it can't be read; no reason if it was erased.
fn open_one(
    model: &dyn ReadModel,
    sealed: &SealedEvent,
    key: Option<&Result<SubjectKey, KeyError>>,
) -> Result<Vec<Event>, Option<&'static str>> {
    let key = match key {
        Some(Ok(key)) => key,
        Some(Err(KeyError::Erased)) => return Err(None),
        Some(Err(KeyError::Unreadable)) => return Err(Some("key.unreadable")),
        Some(Err(KeyError::NeverHadOne | KeyError::NotProvisioned | KeyError::Unavailable)) | None => {
            return Err(Some("key.not-provisioned"));
        }
    };
    let opened = envelope::open_event(key, sealed).map_err(|error| Some(reason_of(error)))?;
    let header = &sealed.header;
    let facts = model.read(header, opened.payload).map_err(|error| match error {
        ReadError::UnknownAggregate => Some("event.unknown-aggregate"),
        ReadError::Malformed => Some("event.malformed"),
    })?;
    let event = |fact| Event {
        partition: sealed.partition,
        position: sealed.position,
        subject: header.subject,
        aggregate_type: header.aggregate_type.clone(),
        aggregate_id: header.aggregate_id,
        sequence: header.sequence,
        recorded_at: header.recorded_at,
        actor: opened.metadata.actor.clone(),
        fact,
        key: key.clone(),
    };
    Ok(facts.into_iter().map(event).collect())
}

fn reason_of(error: EnvelopeError) -> &'static str {
    match error {
        EnvelopeError::Malformed => "envelope.malformed",
        EnvelopeError::OtherKey => "envelope.other-key",
        EnvelopeError::Broken => "envelope.broken",
        EnvelopeError::Content => "envelope.content",
    }
}
