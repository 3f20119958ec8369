//! From resolved entries to events. Pure: everything that had to be looked up is in [`Known`].

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use nexus_domain::allergy::Allergy;
use nexus_domain::appointment::Appointment;
use nexus_domain::clinical_record::ClinicalRecord;
use nexus_domain::condition::Condition;
use nexus_domain::consent::Consent;
use nexus_domain::directory_entry::DirectoryEntry;
use nexus_domain::encounter::Encounter;
use nexus_domain::fhir::{Resource, Whose, references};
use nexus_domain::medication_order::MedicationOrder;
use nexus_domain::observation::Observation;
use nexus_domain::patient::{Patient, may_share_number};
use nexus_domain::types::{Claim, ClaimChange, ClaimKind, ErrorKind, Note, RuleError};
use nexus_domain::{AnyEvent, Fact, Issued, OF_NOBODY, Origin, PatientFacts, Record, StatedVersion, homes};
use nexus_event_store::{NewEvent, SourceVersion, StoredEvent};
use uuid::Uuid;

use super::bundle::{Entry, Kind, Method};
use super::group::{Group, TakenClaims, Told};
use super::in_resource;
use super::known::Known;
use super::resolve::{Resolved, faults, named_by};
use super::succession::{Otherwise, Way, refused, way};
use super::versions::Versions;
use crate::claims::in_places;
use crate::executor::{Lean, Standing, new_event};
use crate::existence::{Named, is_foreign};
use crate::refusal::{Fault, MISMATCH, Refusal};

/// What a group of entries comes to.
pub struct Decision {
    pub group: Group,
    /// In the order of the entries; shorter if there are faults.
    pub told: Vec<Told>,
    pub faults: Vec<Fault>,
}

/// Decides about entries that are stored together. Patients come first, so that what is theirs finds them.
///
/// # Errors
/// If a stored event can't be read. What is wrong with entries is in the decision's faults.
pub fn decide(
    kind: Kind,
    resolved: Vec<Resolved>,
    known: Known,
    taken: &TakenClaims,
    now: DateTime<Utc>,
) -> Result<Decision, Refusal> {
    let inside = owners_inside(&resolved);
    let mut versions = Versions::of(&resolved, &known);
    let mut decider = Decider { kind, known, inside, taken, now, group: Group::default() };
    let (patients, others): (Vec<_>, Vec<_>) =
        resolved.into_iter().partition(|resolved| resolved.aggregate_type == Patient::TYPE);
    // What names a version of another entry comes after it.
    let (versioned, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|resolved| !resolved.versions.is_empty());
    let (mut told, mut faults) = (Vec::new(), Vec::new());
    let mut patients_refused = HashSet::new();
    for mut resolved in patients.into_iter().chain(others).chain(versioned) {
        let (index, id, subject) = (resolved.entry.index, resolved.entry.id, resolved.subject);
        let stated = resolved.entry.stated.version_id.clone();
        versions.settle(&mut resolved);
        match decider.decide(resolved) {
            Ok(about_it) => {
                versions.became(stated, &about_it);
                told.push((index, about_it));
            }
            Err(Refusal::Faults(found)) => {
                // What is theirs is not at fault for it.
                let follows = subject.is_some_and(|subject| subject != id && patients_refused.contains(&subject));
                faults.extend(found.into_iter().filter(|fault| !(follows && fault.rule == UNKNOWN_PATIENT)));
                patients_refused.insert(id);
            }
            Err(fatal) => return Err(fatal),
        }
    }
    told.sort_by_key(|(index, _)| *index);
    Ok(Decision { group: decider.group, told: told.into_iter().map(|(_, told)| told).collect(), faults })
}

struct Decider<'a> {
    kind: Kind,
    known: Known,
    /// Whose the group's own resources are, if they are of several patients.
    inside: HashMap<Named, Uuid>,
    /// Claims that are known to be somebody's.
    taken: &'a TakenClaims,
    now: DateTime<Utc>,
    group: Group,
}

impl Decider<'_> {
    fn decide(&mut self, resolved: Resolved) -> Result<Told, Refusal> {
        if let Some(id) = resolved.existing {
            let resource_type = resolved.entry.resource_type;
            return Ok(nothing_stored(resource_type, id, Vec::new()));
        }
        let resolved = self.at_home(resolved)?;
        match resolved.aggregate_type {
            Patient::TYPE => self.decide_patient(resolved),
            Allergy::TYPE => self.decide_allergy(resolved),
            Encounter::TYPE => self.decide_stream::<Encounter>(resolved),
            Observation::TYPE => self.decide_stream::<Observation>(resolved),
            Condition::TYPE => self.decide_stream::<Condition>(resolved),
            MedicationOrder::TYPE => self.decide_stream::<MedicationOrder>(resolved),
            Appointment::TYPE => self.decide_stream::<Appointment>(resolved),
            Consent::TYPE => self.decide_stream::<Consent>(resolved),
            ClinicalRecord::TYPE => self.decide_stream::<ClinicalRecord>(resolved),
            DirectoryEntry::TYPE => self.decide_stream::<DirectoryEntry>(resolved),
            _ => Err(Refusal::Internal("an aggregate type that bundles do not know")),
        }
    }

    /// A resource stays where it was first kept. What was filed as a patient's is not taken out of the record because it
    /// no longer says whose it is, and what was nobody's does not become a patient's.
    fn at_home(&self, resolved: Resolved) -> Result<Resolved, Refusal> {
        let Some(home) = self.elsewhere(&resolved) else { return Ok(resolved) };
        let is_deleted = resolved.entry.method == Method::Delete;
        if home == OF_NOBODY && !is_deleted || matches!(resolved.whose, Some(Whose::About(_))) {
            let detail = "The resource is recorded as being about somebody or something else.";
            let fault = Fault::new(ErrorKind::Conflict, in_resource(resolved.entry.index), "subject-changed", detail);
            return Err(one(fault));
        }
        Ok(Resolved { aggregate_type: home, subject: None, ..resolved })
    }

    /// Where the resource is kept already, if that is not where it would be kept now.
    fn elsewhere(&self, resolved: &Resolved) -> Option<&'static str> {
        let Entry { resource_type, id, .. } = &resolved.entry;
        let stream = |home: &str| self.known.streams.get(&(home.to_owned(), *id));
        if stream(resolved.aggregate_type).is_some() {
            return None;
        }
        homes(resource_type).find(|home| stream(home).is_some_and(|events| is_of_type(home, events, resource_type)))
    }

    /// Later entries see the patient as this one leaves it.
    fn decide_patient(&mut self, resolved: Resolved) -> Result<Told, Refusal> {
        let id = resolved.entry.id;
        let mut standing = self.known.patients.get(&id).cloned().unwrap_or_default();
        let (told, events) = self.decide_on(&standing, resolved)?;
        for event in events {
            standing.advance(event, id, self.now);
        }
        self.known.patients.insert(id, standing);
        Ok(told)
    }

    /// Later prescriptions of the same bundle are judged by it.
    fn decide_allergy(&mut self, resolved: Resolved) -> Result<Told, Refusal> {
        let mut standing: Standing<Allergy> = self.standing(resolved.entry.id)?;
        let subject = standing.subject.or(resolved.subject).unwrap_or_default();
        let (told, events) = self.decide_on(&standing, resolved)?;
        if !events.is_empty() {
            for event in events {
                standing.advance(event, subject, self.now);
            }
            let (known, _) = self.known.allergies.entry(subject).or_default();
            known.extend(standing.state.active());
        }
        Ok(told)
    }

    fn decide_stream<A: Lean>(&mut self, resolved: Resolved) -> Result<Told, Refusal> {
        let standing: Standing<A> = self.standing(resolved.entry.id)?;
        Ok(self.decide_on(&standing, resolved)?.0)
    }

    fn standing<A: Lean>(&mut self, id: Uuid) -> Result<Standing<A>, Refusal> {
        let events = self.known.streams.remove(&(A::TYPE.to_owned(), id)).unwrap_or_default();
        Ok(Standing::fold(events)?)
    }

    /// Decides about one entry and adds what comes of it to the group.
    fn decide_on<A: Lean>(
        &mut self,
        standing: &Standing<A>,
        resolved: Resolved,
    ) -> Result<(Told, Vec<A::Event>), Refusal> {
        self.check_references(&resolved)?;
        let Resolved { entry, subject, refers_to, version_lost, .. } = resolved;
        let (index, id, created) = (entry.index, entry.id, standing.sequence == 0);
        let resource_type = entry.resource_type.clone();
        if entry.method == Method::Delete && entry.if_match.is_none() && created {
            return Ok((nothing_stored(resource_type, id, vec![never_there()]), Vec::new()));
        }
        let subject = subject_of(&entry, subject, standing)?;
        check_condition(&entry, standing)?;
        let refers_to_others = self.refers_to_others(&entry, &refers_to, subject);
        let criterion = entry.if_none_exist.clone();
        let source = source_of(&entry);
        let way = way(self.kind, &entry, standing);
        // Rarely needed, so it is copied only then.
        let spare = entry.resource.as_ref().filter(|_| matches!(way, Way::Compare(Otherwise::Replace(_)))).cloned();
        let mut issued = self.issue::<A>(entry, &way, subject);
        let mut succeeds = None;
        let mut events = match (standing.state.decide(&issued), way) {
            (Err(error), Way::Compare(otherwise)) if error.code() == ALREADY_RECORDED => match (otherwise, spare) {
                (Otherwise::Refuse { rule, detail }, _) => return Err(one(refused(index, rule, detail))),
                (Otherwise::Keep(note), _) => return Ok((kept(resource_type, id, standing, note), Vec::new())),
                (Otherwise::Replace(note), Some(resource)) => {
                    (issued.action, succeeds) = (A::amend(resource), note);
                    decided(index, standing, &issued)?
                }
                (Otherwise::Replace(_), None) => return Err(Refusal::Internal("a resource was not kept")),
            },
            (events, _) => events.map_err(|error| rule_broken(index, &error))?,
        };
        let mut changes: Vec<ClaimChange> = claims(standing, &events);
        let mut settled = self.settle(id, events.last().map(Fact::resource), &changes);
        if settled.as_ref().is_err_and(|claim| claim.kind == ClaimKind::PractitionerSlot) {
            A::learn_slot_taken(&mut issued.action);
            events = decided(index, standing, &issued)?;
            changes = claims(standing, &events);
            settled = self.settle(id, events.last().map(Fact::resource), &changes);
        }
        if let Some(note) = succeeds {
            events.iter_mut().for_each(|event| event.note(note.clone()));
        }
        let remarks = [
            (refers_to_others, nexus_domain::Refusal::ForeignReference),
            (version_lost, nexus_domain::Refusal::VersionElsewhere),
        ];
        for (_, remark) in remarks.iter().filter(|(applies, _)| *applies) {
            events.iter_mut().for_each(|event| event.note(Note::of(remark)));
        }
        let settled = settled
            .map_err(|claim| one(Fault::new(ErrorKind::Conflict, in_resource(index), claim.kind.as_str(), TAKEN)))?;
        let condition = criterion.and_then(|criterion| criterion.claim());
        let bears =
            |claim: &Claim| changes.iter().any(|change| matches!(change, ClaimChange::Take(own) if own == claim));
        if created && condition.as_ref().is_some_and(|claim| !bears(claim)) {
            let pointer = format!("/entry/{index}/request/ifNoneExist");
            return Err(one(Fault::invalid(pointer, "unsupported-request", NOT_BORNE)));
        }
        self.lean_on::<A>(subject, &issued, !events.is_empty());
        if !events.is_empty() {
            self.group.expect_stream(A::TYPE, id, standing.sequence);
            self.group.add_claims(index, (A::TYPE, id), settled, condition.as_ref());
        }
        let mut sequence = standing.sequence;
        for event in &events {
            sequence += 1;
            let event = new_event::<A>(id, sequence, subject, event)?;
            self.group.events.push(NewEvent { source: source.clone(), ..event });
        }
        let told = Told {
            status: if created { 201 } else { 200 },
            resource_type,
            id,
            sequence: Some(sequence),
            recorded_at: standing.recorded_at.filter(|_| events.is_empty()),
            notes: events.iter().flat_map(|event| event.notes().to_vec()).collect(),
            updated: !created && !events.is_empty(),
        };
        Ok((told, events))
    }

    /// What the changes come to, given who holds what: a directory identifier takes a free place, a record number may be
    /// shared after a merge. Otherwise a claim that another entry has taken, or that is known to be somebody else's, is
    /// what refuses the entry.
    fn settle(
        &self,
        id: Uuid,
        resource: Option<&Resource>,
        changes: &[ClaimChange],
    ) -> Result<Vec<ClaimChange>, Claim> {
        let other = |claim: &Claim| {
            let holder = self.group.holder(claim).or_else(|| self.taken.get(claim).copied());
            holder.filter(|holder| *holder != id)
        };
        let mut settled = in_places(changes, |claim| other(claim).is_some());
        let refusing = settled.extract_if(.., |change| match change {
            ClaimChange::Take(claim) => other(claim).is_some(),
            ClaimChange::Release(_) => false,
        });
        for change in refusing {
            let ClaimChange::Take(claim) = change else { continue };
            let shared = other(&claim).zip(resource).is_some_and(|(holder, resource)| {
                let of_holder = self.known.patients.get(&holder).and_then(|standing| standing.state.resource());
                claim.kind == ClaimKind::MedicalRecordNumber && may_share_number(resource, &claim, holder, of_holder)
            });
            if !shared {
                return Err(claim);
            }
        }
        Ok(settled)
    }

    /// Everything outside of the bundle that the resource refers to exists.
    fn check_references(&self, resolved: &Resolved) -> Result<(), Refusal> {
        let missing = |named: &Named| resolved.refers_to.contains(named) && !self.known.owners.contains_key(named);
        if !resolved.refers_to.iter().any(missing) {
            return Ok(());
        }
        let missing = |text: &str| named_by(text).is_some_and(|named| missing(&named));
        let resource = resolved.entry.resource.as_ref();
        Err(Refusal::Faults(
            resource.map(|resource| faults(resolved.entry.index, resource, missing)).unwrap_or_default(),
        ))
    }

    /// Whether the resource refers to something of another patient.
    fn refers_to_others(&self, entry: &Entry, outside: &HashSet<Named>, subject: Uuid) -> bool {
        let owner = |named: &Named| self.known.owners.get(named).or_else(|| self.inside.get(named));
        let foreign = |named: &Named| owner(named).is_some_and(|owner| is_foreign(named, *owner, Some(subject)));
        let inside = entry.resource.as_ref().filter(|_| !self.inside.is_empty()).map(references).unwrap_or_default();
        outside.iter().any(foreign)
            || inside.into_iter().filter_map(|(_, text)| named_by(text)).any(|named| foreign(&named))
    }

    fn issue<A: Lean>(&self, entry: Entry, way: &Way, subject: Uuid) -> Issued<A::Action> {
        let mut action = match (way, entry.resource) {
            (Way::Replace, Some(resource)) => A::amend(resource),
            (_, Some(resource)) => A::record(resource),
            (_, None) => A::retract(),
        };
        if A::needs_allergies(&action) {
            let allergies = self.known.allergies.get(&subject);
            A::learn_allergies(&mut action, allergies.map(|(active, _)| active.clone()).unwrap_or_default());
        }
        let patient = if A::ABOUT_A_PATIENT { self.facts(subject) } else { PatientFacts::default() };
        Issued { now: self.now, origin: Origin::History, patient, action }
    }

    fn facts(&self, patient: Uuid) -> PatientFacts {
        self.known.patients.get(&patient).map(|standing| standing.state.facts()).unwrap_or_default()
    }

    /// The append has to refuse if the patient or the allergies that this leaned on have moved.
    fn lean_on<A: Lean>(&mut self, subject: Uuid, issued: &Issued<A::Action>, stores: bool) {
        if !stores || !A::ABOUT_A_PATIENT {
            return;
        }
        // A patient written by this group is expected where it stood before: the first to say so counts.
        let sequence = self.known.patients.get(&subject).map_or(0, |standing| standing.sequence);
        self.group.expect_stream(Patient::TYPE, subject, sequence);
        if A::needs_allergies(&issued.action)
            && let Some((_, Some(until))) = self.known.allergies.get(&subject)
        {
            self.group.expect_tail(subject, Allergy::TYPE, *until);
        }
    }
}

/// Whose the resources of a group are; nothing if they are all one patient's, as they nearly always are.
fn owners_inside(resolved: &[Resolved]) -> HashMap<Named, Uuid> {
    let of_patients = || resolved.iter().filter(|resolved| resolved.aggregate_type != DirectoryEntry::TYPE);
    let mut subjects = of_patients().filter_map(|resolved| resolved.subject);
    let first = subjects.next();
    if subjects.all(|subject| Some(subject) == first) {
        return HashMap::new();
    }
    let owned =
        |resolved: &Resolved| Some(((resolved.entry.resource_type.clone(), resolved.entry.id), resolved.subject?));
    of_patients().filter_map(owned).collect()
}

/// The code of the domain's rule against another resource under the same id.
const ALREADY_RECORDED: &str = "already-recorded";
/// The code of the domain's rule that the patient exists.
const UNKNOWN_PATIENT: &str = "unknown-patient";
const TAKEN: &str = "Another entry of the bundle, or somebody else, holds what must be unique.";
const NOT_BORNE: &str = "The resource has to bear the identifier that it is created under.";

fn one(fault: Fault) -> Refusal {
    Refusal::Faults(vec![fault])
}

/// Whether a stream is of a resource of this type.
fn is_of_type(aggregate_type: &str, events: &[StoredEvent], resource_type: &str) -> bool {
    let Some(StoredEvent { header, payload, .. }) = events.first() else { return false };
    let first = AnyEvent::parse(aggregate_type, &header.event_type, &header.event_version, payload.clone());
    first.is_ok_and(|first| first.first().is_some_and(|event| event.resource().resource_type() == resource_type))
}

/// Whose data it is: a stream stays with its subject.
fn subject_of<A: Lean>(entry: &Entry, subject: Option<Uuid>, standing: &Standing<A>) -> Result<Uuid, Refusal> {
    match (standing.subject, subject) {
        (Some(old), Some(new)) if old != new => {
            let detail = "The resource is recorded as another patient's.";
            Err(one(Fault::new(ErrorKind::Conflict, in_resource(entry.index), "subject-changed", detail)))
        }
        (Some(subject), _) | (None, Some(subject)) => Ok(subject),
        (None, None) => Err(unknown(entry)),
    }
}

/// What an entry says of the stream that it is about.
fn check_condition<A: Lean>(entry: &Entry, standing: &Standing<A>) -> Result<(), Refusal> {
    if entry.if_match.is_some_and(|sequence| sequence != standing.sequence) {
        let (pointer, detail) =
            (format!("/entry/{}/request/ifMatch", entry.index), "The resource has another version.");
        return Err(one(Fault::new(ErrorKind::Conflict, pointer, MISMATCH, detail)));
    }
    if entry.method == Method::Put && entry.if_none_exist.is_some() && standing.sequence > 0 {
        let detail = "Nobody meets the condition, and the id is that of another resource.";
        return Err(one(Fault::new(ErrorKind::Conflict, in_resource(entry.index), "already-recorded", detail)));
    }
    if standing.state.resource().is_none_or(|old| old.resource_type() == entry.resource_type) {
        return Ok(());
    }
    if entry.method == Method::Delete {
        return Err(unknown(entry));
    }
    let detail = "A resource of another type is recorded under this id.";
    Err(one(Fault::new(ErrorKind::Conflict, in_resource(entry.index), "id-of-another-type", detail)))
}

fn unknown(entry: &Entry) -> Refusal {
    let pointer = format!("/entry/{}/request/url", entry.index);
    one(Fault::invalid(pointer, "unknown-resource", "There is no such resource."))
}

fn decided<A: Lean>(
    index: usize,
    standing: &Standing<A>,
    issued: &Issued<A::Action>,
) -> Result<Vec<A::Event>, Refusal> {
    standing.state.decide(issued).map_err(|error| rule_broken(index, &error))
}

fn rule_broken(index: usize, error: &dyn RuleError) -> Refusal {
    let mut fault = Fault::of(error).under(&in_resource(index));
    // Within a bundle, what is not found is a fault of the bundle.
    if fault.kind == ErrorKind::NotFound {
        fault.kind = ErrorKind::Invalid;
    }
    one(fault)
}

/// What the sender said of the version. A deletion says nothing: it is as old as its record.
fn source_of(entry: &Entry) -> Option<SourceVersion> {
    entry.resource.as_ref()?;
    let StatedVersion { version_id, last_updated } = entry.stated.clone();
    Some(SourceVersion { version_id, last_updated })
}

/// An entry that leads to what is there, or to nothing.
fn nothing_stored(resource_type: String, id: Uuid, notes: Vec<Note>) -> Told {
    Told { status: 200, resource_type, id, sequence: None, recorded_at: None, notes, updated: false }
}

/// Deleting is idempotent (<https://hl7.org/fhir/R4/http.html#delete>), and says when there was nothing to delete.
fn never_there() -> Note {
    Note { rule: "unknown-resource".to_owned(), text: "There is no such resource; nothing was deleted.".to_owned() }
}

/// An entry that does not replace what stands.
fn kept<A>(resource_type: String, id: Uuid, standing: &Standing<A>, note: Note) -> Told {
    let (sequence, recorded_at) = (Some(standing.sequence), standing.recorded_at);
    Told { sequence, recorded_at, ..nothing_stored(resource_type, id, vec![note]) }
}

/// What events do to the claims. Only the first can find claims of the state before it, and one is the rule.
fn claims<A: Lean>(standing: &Standing<A>, events: &[A::Event]) -> Vec<ClaimChange> {
    events.iter().flat_map(|event| standing.state.claims(event)).collect()
}
