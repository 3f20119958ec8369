//! Whether what a resource refers to exists, and whose it is.
//!
//! A stream keeps its resource type and stays with its subject, so a "yes" may be remembered (until a subject is erased, or
//! the store has lost some of its tail); a "no" may not.

use std::collections::{HashMap, HashSet};

use cqrs_es::Aggregate;
use futures::{StreamExt, TryStreamExt, stream};
use nexus_domain::clinical_record::ClinicalRecord;
use nexus_domain::directory_entry::DirectoryEntry;
use nexus_domain::fhir::{Reference, Resource, patient_of, references};
use nexus_domain::patient::Patient;
use nexus_domain::{AnyEvent, Fact, aggregate_for, homes};
use nexus_event_store::{Error, EventLog, KeyError, StoredEvent};
use uuid::Uuid;

use crate::executor::{Lean, LoadError, Standing};
use crate::refusal::{Fault, Refusal};

/// How many known resources are remembered (about 100 bytes each).
const KNOWN_MAX: u64 = 200_000;
/// How many look-ups one request keeps going at a time.
const LOOKUPS_AT_ONCE: usize = 8;

/// A stream by its aggregate type and id.
pub type StreamId = (String, Uuid);
/// What a reference names: a resource type and an id.
pub type Named = (String, Uuid);

/// Knows which resources exist. Cheap to clone.
#[derive(Clone)]
pub struct Existence {
    log: EventLog,
    /// Whose each of them is.
    known: moka::sync::Cache<Named, Uuid>,
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

    /// Refuses an event whose resource refers to something of ours that does not exist, or that is another patient's.
    /// What stood before was looked at when it came, or is history.
    ///
    /// # Errors
    /// The first such reference, by its place and never by its text.
    pub async fn check<A: Lean>(
        &self,
        event: &A::Event,
        standing: &Standing<A>,
        subject: Option<Uuid>,
    ) -> Result<(), Refusal> {
        let before: HashSet<&str> =
            standing.state.resource().into_iter().flat_map(references).map(|(_, text)| text).collect();
        let resource = event.resource();
        if standing.sequence == 0 {
            self.check_home::<A>(resource).await?;
        }
        let added: Vec<(String, &str)> =
            references(resource).into_iter().filter(|(_, text)| !before.contains(text)).collect();
        let wanted = ours(resource, &added);
        let owners = self.owners(wanted.iter().map(|(_, named)| named)).await?;
        for (pointer, named) in wanted {
            match owners.get(&named) {
                None => return Err(Refusal::Faults(vec![Fault::unresolved(pointer)])),
                Some(owner) if is_foreign(&named, *owner, subject) => {
                    let fault = Fault::of(&nexus_domain::Refusal::ForeignReference);
                    return Err(Refusal::Faults(vec![Fault { pointer, ..fault }]));
                }
                Some(_) => {}
            }
        }
        match unresolved(added) {
            None => Ok(()),
            Some(pointer) => Err(Refusal::Faults(vec![Fault::unresolved(pointer)])),
        }
    }

    /// A resource is kept in one place. Only these two keep types that others keep, too, under ids that a caller chooses.
    async fn check_home<A: Lean>(&self, resource: &Resource) -> Result<(), Refusal> {
        let Some(id) = resource.id().filter(|_| matches!(A::TYPE, DirectoryEntry::TYPE | ClinicalRecord::TYPE)) else {
            return Ok(());
        };
        let named = (resource.resource_type().to_owned(), id);
        for home in homes(&named.0).filter(|home| *home != A::TYPE) {
            if self.look_up_at(home, &named).await?.is_some() {
                return Err(Refusal::Faults(vec![Fault::of(&nexus_domain::Refusal::AlreadyRecorded)]));
            }
        }
        Ok(())
    }

    /// Whose each of these resources is. What does not exist, or not as this type, has no entry.
    pub async fn owners(&self, wanted: impl Iterator<Item = &Named>) -> Result<HashMap<Named, Uuid>, LoadError> {
        let (mut owners, mut unsure) = (HashMap::new(), HashSet::new());
        for named in wanted {
            match self.known.get(named) {
                Some(owner) => drop(owners.insert(named.clone(), owner)),
                None => drop(unsure.insert(named.clone())),
            }
        }
        let mut answers = stream::iter(unsure).map(|named| self.look_up(named)).buffer_unordered(LOOKUPS_AT_ONCE);
        while let Some((named, owner)) = answers.try_next().await? {
            if let Some(owner) = owner {
                self.known.insert(named.clone(), owner);
                owners.insert(named, owner);
            }
        }
        Ok(owners)
    }

    async fn look_up(&self, named: Named) -> Result<(Named, Option<Uuid>), LoadError> {
        let mut owner = None;
        for home in homes(&named.0) {
            owner = self.look_up_at(home, &named).await?;
            if owner.is_some() {
                break;
            }
        }
        let owner = match owner {
            Some(owner) if self.is_erased(owner).await? => None,
            owner => owner,
        };
        Ok((named, owner))
    }

    /// Most aggregates keep resources of one type, so that the row says all. Two keep many: there the type is under seal.
    async fn look_up_at(&self, home: &'static str, (resource_type, id): &Named) -> Result<Option<Uuid>, LoadError> {
        if matches!(home, DirectoryEntry::TYPE | ClinicalRecord::TYPE) {
            let first = self.first_event(home, *id).await?;
            return Ok(first.filter(|(of_type, _)| of_type == resource_type).map(|(_, subject)| subject));
        }
        Ok(self.log.subject_of(home, *id).await?)
    }

    /// Whether nothing of this subject is there any more.
    async fn is_erased(&self, subject: Uuid) -> Result<bool, LoadError> {
        match self.log.keyring().key(subject).await {
            Err(KeyError::Erased) => Ok(true),
            Err(KeyError::Unavailable) => Err(Error::Key { subject, source: KeyError::Unavailable }.into()),
            _ => Ok(false),
        }
    }

    /// Forgets everything: something may not be there any more.
    pub fn forget(&self) {
        self.known.invalidate_all();
    }

    /// The resource type and the subject of a stream. An erased one is no longer there.
    async fn first_event(&self, aggregate_type: &str, id: Uuid) -> Result<Option<(String, Uuid)>, LoadError> {
        let events = match self.log.stream(aggregate_type, id).await {
            Err(Error::Key { source: KeyError::Erased, .. }) => return Ok(None),
            events => events?,
        };
        let Some(StoredEvent { header, payload, .. }) = events.into_iter().next() else { return Ok(None) };
        let events = AnyEvent::parse(aggregate_type, &header.event_type, &header.event_version, payload)?;
        Ok(events.first().map(|event| (event.resource().resource_type().to_owned(), header.subject)))
    }
}

/// Whether a resource is another patient's. To mention another patient is no fault by itself: a mother, a payer, a
/// duplicate.
pub fn is_foreign(named: &Named, owner: Uuid, subject: Option<Uuid>) -> bool {
    // What is about nobody is its own.
    let of_a_patient = named.0 != Patient::TYPE && owner != named.1;
    of_a_patient && Some(owner) != subject
}

/// The references of a resource that name resources of ours, each with its place. A patient's resources mention their
/// patient all the time; that one is looked at anyway.
fn ours(resource: &Resource, added: &[(String, &str)]) -> Vec<(String, Named)> {
    let itself = |resource_type: &str, id| resource.id() == Some(id) && resource.resource_type() == resource_type;
    let subject = patient_of(resource);
    let mut found = Vec::new();
    for (pointer, text) in added {
        if let Reference::Resource { resource_type, id } = Reference::parse(text)
            && aggregate_for(&resource_type).is_some()
            && !(resource_type == "Patient" && subject == Some(id))
            && !itself(&resource_type, id)
        {
            found.push((pointer.clone(), (resource_type, id)));
        }
    }
    found
}

/// The place of a reference that only a bundle can resolve.
fn unresolved(added: Vec<(String, &str)>) -> Option<String> {
    let of_a_bundle = |text| matches!(Reference::parse(text), Reference::Entry(_) | Reference::Conditional { .. });
    added.into_iter().find(|(_, text)| of_a_bundle(text)).map(|(pointer, _)| pointer)
}
