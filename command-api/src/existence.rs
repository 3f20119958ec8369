//! Whether what a resource refers to exists.
//!
//! Streams never vanish, so a "yes" may be remembered (until the store has lost some); a "no" may not.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use nexus_domain::fhir::{Reference, Resource, references};
use nexus_domain::{Fact, aggregate_for};
use nexus_event_store::{Error, EventLog};
use uuid::Uuid;

use crate::executor::Lean;
use crate::refusal::{Fault, Refusal};

/// How many known streams are remembered (about 100 bytes each).
const KNOWN_MAX: u64 = 200_000;
/// How many look-ups one request keeps going at a time.
const LOOKUPS_AT_ONCE: usize = 8;

/// A stream by its aggregate type and id.
pub type StreamId = (String, Uuid);

/// Knows which streams exist. Cheap to clone.
#[derive(Clone)]
pub struct Existence {
    log: EventLog,
    known: moka::sync::Cache<StreamId, ()>,
}

impl Existence {
    pub fn new(log: EventLog) -> Self {
        let known = moka::sync::Cache::new(KNOWN_MAX);
        log.on_rollback({
            let known = known.clone();
            move || known.invalidate_all()
        });
        Self { log, known }
    }

    /// Refuses an event whose resource refers to something of ours that does not exist.
    ///
    /// # Errors
    /// The first such reference, by its place and never by its text.
    pub async fn check<A: Lean>(&self, event: &A::Event) -> Result<(), Refusal> {
        let resource = event.resource();
        let wanted = ours(resource);
        let streams: Vec<StreamId> = wanted.iter().map(|(_, stream)| stream.clone()).collect();
        let missing = self.missing(&streams).await?;
        let broken = wanted.into_iter().find(|(_, stream)| missing.contains(stream)).map(|(pointer, _)| pointer);
        match broken.or_else(|| unresolved(resource)) {
            None => Ok(()),
            Some(pointer) => Err(Refusal::Faults(vec![Fault::unresolved(pointer)])),
        }
    }

    /// Which of these streams do not exist.
    pub async fn missing(&self, streams: &[StreamId]) -> Result<HashSet<StreamId>, Error> {
        let unsure: HashSet<StreamId> =
            streams.iter().filter(|stream| !self.known.contains_key(*stream)).cloned().collect();
        if unsure.is_empty() {
            return Ok(unsure);
        }
        let mut answers = stream::iter(unsure).map(|wanted| self.exists(wanted)).buffer_unordered(LOOKUPS_AT_ONCE);
        let mut missing = HashSet::new();
        while let Some((wanted, exists)) = answers.try_next().await? {
            if exists {
                self.known.insert(wanted, ());
            } else {
                missing.insert(wanted);
            }
        }
        Ok(missing)
    }

    async fn exists(&self, wanted: StreamId) -> Result<(StreamId, bool), Error> {
        let subject = self.log.subject_of(&wanted.0, wanted.1).await?;
        Ok((wanted, subject.is_some()))
    }
}

/// The references of a resource that point at streams of ours, each with its place. A patient's resources mention their
/// patient all the time; that one is looked at anyway.
fn ours(resource: &Resource) -> Vec<(String, StreamId)> {
    let subject = nexus_domain::fhir::patient_of(resource);
    let mut found = Vec::new();
    for (pointer, text) in references(resource) {
        if let Reference::Resource { resource_type, id } = Reference::parse(text)
            && let Some(aggregate_type) = aggregate_for(&resource_type)
            && !(resource_type == "Patient" && subject == Some(id))
            && resource.id() != Some(id)
        {
            found.push((pointer, (aggregate_type.to_owned(), id)));
        }
    }
    found
}

/// The place of a reference that only a bundle can resolve.
fn unresolved(resource: &Resource) -> Option<String> {
    let of_a_bundle = |text| matches!(Reference::parse(text), Reference::Entry(_) | Reference::Conditional { .. });
    references(resource).into_iter().find(|(_, text)| of_a_bundle(text)).map(|(pointer, _)| pointer)
}
