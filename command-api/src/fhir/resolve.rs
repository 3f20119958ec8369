//! Resolving references, and finding whose data each entry is.

use std::collections::{HashMap, HashSet};

use nexus_domain::aggregate_for;
use nexus_domain::fhir::{
    Reference, Resource, is_directory_type, is_resource_type, patient_of, references, rewrite_references,
};
use uuid::Uuid;

use super::bundle::{Entry, EntryResult, Kind, Method, foreign_id};
use super::conditional::Criterion;
use super::names::Names;
use super::{each_reference, in_resource};
use crate::existence::{Named, StreamId};
use crate::refusal::Fault;

/// An entry that is ready to be decided about.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub entry: Entry,
    pub aggregate_type: &'static str,
    /// Nothing for a deletion: the stream knows.
    pub subject: Option<Uuid>,
    /// Resources outside of what is stored with it that it refers to.
    pub refers_to: HashSet<Named>,
    /// A conditional create whose condition somebody meets.
    pub existing: Option<Uuid>,
}

/// An entry after resolving, or what is wrong with it.
pub type ResolvedResult = Result<Resolved, Vec<Fault>>;

/// The identifiers that have to be looked up.
pub fn criteria(entries: &mut [EntryResult]) -> HashSet<Criterion> {
    let mut found = HashSet::new();
    for entry in entries.iter_mut().flatten() {
        found.extend(entry.if_none_exist.clone());
        if let Some(resource) = &mut entry.resource {
            each_reference(resource, |text| found.extend(criterion(text)));
        }
    }
    found
}

/// Resolves every entry. Faults stay with their entries.
pub fn resolve(kind: Kind, entries: Vec<EntryResult>, bearers: &HashMap<Criterion, Uuid>) -> Vec<ResolvedResult> {
    let names = Names::of(entries.iter().flatten(), bearers);
    let mut seen = Seen::default();
    let mut resolved: Vec<ResolvedResult> = entries
        .into_iter()
        .map(|entry| entry.and_then(|entry| resolve_entry(kind, entry, &names, bearers, &mut seen)))
        .collect();
    let only = (kind == Kind::Transaction).then(|| only_patient(&resolved)).flatten();
    for result in &mut resolved {
        let homeless =
            result.as_ref().ok().filter(|resolved| resolved.is_homeless()).map(|resolved| resolved.entry.index);
        let Some(index) = homeless else { continue };
        match (only, &mut *result) {
            (Some(patient), Ok(resolved)) => resolved.subject = Some(patient),
            _ => *result = Err(vec![no_patient(index)]),
        }
    }
    resolved
}

impl Resolved {
    fn is_homeless(&self) -> bool {
        self.subject.is_none() && self.existing.is_none() && self.entry.method != Method::Delete
    }
}

/// What the entries so far are called, and what they write.
#[derive(Default)]
struct Seen {
    names: HashSet<String>,
    streams: HashSet<StreamId>,
}

fn resolve_entry(
    kind: Kind,
    mut entry: Entry,
    names: &Names,
    bearers: &HashMap<Criterion, Uuid>,
    seen: &mut Seen,
) -> ResolvedResult {
    let index = entry.index;
    let Some(aggregate_type) = aggregate_for(&entry.resource_type) else {
        let pointer = format!("/entry/{index}/request/url");
        return Err(vec![Fault::invalid(pointer, "unsupported-type", "Resources of this type are not filed here.")]);
    };
    let names_of_it: HashSet<String> = entry.aliases.iter().cloned().chain([entry.name()]).collect();
    if names_of_it.into_iter().any(|name| !seen.names.insert(name)) {
        let detail = "Another entry has the same type and id, or the same fullUrl.";
        return Err(vec![Fault::invalid(format!("/entry/{index}"), "repeated-entry", detail)]);
    }
    let existing = entry.if_none_exist.as_ref().and_then(|criterion| bearers.get(criterion)).copied();
    if existing.is_none() && !seen.streams.insert((aggregate_type.to_owned(), entry.id)) {
        let detail = "An entry of another type has the same id. Ids are unique among such types here.";
        return Err(vec![Fault::invalid(format!("/entry/{index}"), "repeated-id", detail)]);
    }
    let mut refers_to = HashSet::new();
    let mut subject = None;
    let base = entry.base.as_deref();
    if let Some(resource) = entry.resource.as_mut().filter(|_| existing.is_none()) {
        let resolver = Resolver { kind, base, names, bearers };
        refers_to = resolver.rewrite(index, resource)?;
        subject = if is_directory_type(&entry.resource_type) { Some(entry.id) } else { patient_of(resource) };
    }
    Ok(Resolved { entry, aggregate_type, subject, refers_to, existing })
}

/// What a reference comes to.
enum Target {
    /// Nothing to be done about it.
    Leave,
    /// A resource outside of what is stored together; it has to exist.
    Outside(Named),
    /// Written as type and id; outside or not.
    Rewrite(String, Option<Named>),
    Nowhere,
}

/// Resolves the references of one entry.
struct Resolver<'a> {
    kind: Kind,
    /// What its relative references are relative to.
    base: Option<&'a str>,
    names: &'a Names,
    bearers: &'a HashMap<Criterion, Uuid>,
}

impl Resolver<'_> {
    /// Rewrites the references of a resource; answers the resources that have to exist.
    fn rewrite(&self, index: usize, resource: &mut Resource) -> Result<HashSet<Named>, Vec<Fault>> {
        let mut refers_to = HashSet::new();
        let mut nowhere = HashSet::new();
        rewrite_references(resource, &mut |text| match self.target(text) {
            Target::Leave => None,
            Target::Outside(named) => {
                refers_to.insert(named);
                None
            }
            Target::Rewrite(new, outside) => {
                refers_to.extend(outside);
                Some(new)
            }
            Target::Nowhere => {
                nowhere.insert(text.to_owned());
                None
            }
        });
        if nowhere.is_empty() { Ok(refers_to) } else { Err(faults(index, resource, |text| nowhere.contains(text))) }
    }

    fn target(&self, text: &str) -> Target {
        if let Some((resource_type, id)) = self.names.named(text) {
            return inside(self.kind, text, resource_type, *id);
        }
        match Reference::parse(text) {
            Reference::Resource { resource_type, id } => match aggregate_for(&resource_type) {
                Some(_) => {
                    let named = (resource_type, id);
                    // Another way of writing it, such as with a version.
                    if self.kind == Kind::Transaction && self.names.contains(&named) {
                        Target::Leave
                    } else {
                        Target::Outside(named)
                    }
                }
                None => Target::Nowhere,
            },
            Reference::Conditional { resource_type, system, value } => {
                self.bearer(text, &resource_type, &system, &value)
            }
            Reference::Entry(_) => Target::Nowhere,
            Reference::Malformed => self.imported(text),
            // The rules of form look at these.
            Reference::Contained(_) | Reference::External => Target::Leave,
        }
    }

    fn bearer(&self, text: &str, resource_type: &str, system: &str, value: &str) -> Target {
        let criterion = Criterion::new(resource_type, system, value);
        let here = self.names.bearing(&criterion).filter(|_| self.kind == Kind::Transaction);
        match (here, self.bearers.get(&criterion)) {
            (Some(id), _) => inside(self.kind, text, resource_type, id),
            (None, Some(id)) => Target::Rewrite(format!("{resource_type}/{id}"), None),
            (None, None) => Target::Nowhere,
        }
    }

    /// Something that came under an id that is no UUID: it has the id here that such an entry gets.
    fn imported(&self, text: &str) -> Target {
        match foreign(text).filter(|(resource_type, _)| aggregate_for(resource_type).is_some()) {
            Some((resource_type, id)) => {
                let id = foreign_id(self.base, resource_type, id);
                Target::Rewrite(format!("{resource_type}/{id}"), Some((resource_type.to_owned(), id)))
            }
            // The rules of form refuse it.
            None => Target::Leave,
        }
    }
}

/// Type and id of `Practitioner/123`, with or without a version.
fn foreign(text: &str) -> Option<(&str, &str)> {
    let (resource_type, rest) = text.split_once('/')?;
    let id = rest.split_once("/_history/").map_or(rest, |(id, _)| id);
    let is_id = (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    (is_id && is_resource_type(resource_type)).then_some((resource_type, id))
}

/// Another entry of the bundle. What is stored together exists together; entries of a batch are on their own.
fn inside(kind: Kind, text: &str, resource_type: &str, id: Uuid) -> Target {
    let new = format!("{resource_type}/{id}");
    let outside = (kind == Kind::Batch).then(|| (resource_type.to_owned(), id));
    match (new == text, outside) {
        (true, None) => Target::Leave,
        (true, Some(named)) => Target::Outside(named),
        (false, outside) => Target::Rewrite(new, outside),
    }
}

/// A fault for each reference of a resource that `broken` picks.
pub fn faults(index: usize, resource: &Resource, broken: impl Fn(&str) -> bool) -> Vec<Fault> {
    let place = in_resource(index);
    let broken = references(resource).into_iter().filter(|(_, text)| broken(text));
    broken.map(|(pointer, _)| Fault::unresolved(pointer).under(&place)).collect()
}

/// The resource that a reference of a resolved resource names.
pub fn named_by(text: &str) -> Option<Named> {
    match Reference::parse(text) {
        Reference::Resource { resource_type, id } => Some((resource_type, id)),
        _ => None,
    }
}

fn criterion(text: &str) -> Option<Criterion> {
    if !text.contains('?') {
        return None;
    }
    match Reference::parse(text) {
        Reference::Conditional { resource_type, system, value } => {
            Some(Criterion::new(&resource_type, &system, &value))
        }
        _ => None,
    }
}

/// The patient that all entries are about, as far as they are about one.
fn only_patient(resolved: &[ResolvedResult]) -> Option<Uuid> {
    let about_patients = resolved.iter().flatten().filter(|resolved| !is_directory_type(&resolved.entry.resource_type));
    let of = |resolved: &Resolved| {
        let existing = resolved.existing.filter(|_| resolved.entry.resource_type == "Patient");
        resolved.subject.or(existing)
    };
    let mut patients = about_patients.filter_map(of);
    let first = patients.next()?;
    patients.all(|other| other == first).then_some(first)
}

fn no_patient(index: usize) -> Fault {
    Fault::invalid(in_resource(index), "no-patient", "It can't be told which patient the resource is about.")
}
