//! Resolving references, and finding whose data each entry is.

use std::collections::{HashMap, HashSet};

use nexus_domain::aggregate_for;
use nexus_domain::fhir::{
    Link, Reference, Resource, Whose, is_fhir_id, is_resource_type, name_patient, patient_identifier, reason_not_kept,
    references, rewrite_links, whose, without_version,
};
use uuid::Uuid;

use super::bundle::{Entry, EntryResult, Kind, Method, foreign_id};
use super::conditional::{Bearers, Criterion};
use super::names::{Called, Names};
use super::own::OwnBases;
use super::{each_reference, in_resource};
use crate::existence::{Named, StreamId};
use crate::refusal::Fault;

/// An entry that is ready to be decided about.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub entry: Entry,
    pub aggregate_type: &'static str,
    /// What the resource says about whose it is; nothing for a deletion.
    pub whose: Option<Whose>,
    /// Whose it is, once that is settled. Nothing for a deletion: the stream knows.
    pub subject: Option<Uuid>,
    /// Resources outside of what is stored with it that it refers to.
    pub refers_to: HashSet<Named>,
    /// A conditional create whose condition somebody meets.
    pub existing: Option<Uuid>,
    /// References to versions that entries of the bundle have elsewhere. What version that is here is known once the entry
    /// was decided about.
    pub versions: HashMap<String, Named>,
    /// It named versions of its source's that nothing here corresponds to.
    pub version_lost: bool,
}

/// An entry after resolving, or what is wrong with it.
pub type ResolvedResult = Result<Resolved, Vec<Fault>>;

/// The identifiers that have to be looked up.
pub fn criteria(own: &OwnBases, entries: &mut [EntryResult]) -> HashSet<Criterion> {
    let mut found = HashSet::new();
    for entry in entries.iter_mut().flatten() {
        found.extend(entry.if_none_exist.clone().or_else(|| entry.condition.clone()));
        if let Some(resource) = &mut entry.resource {
            found.extend(patient_criterion(resource));
            each_reference(resource, |text| found.extend(criterion(own.strip(text).unwrap_or(text))));
        }
    }
    found
}

/// Resolves every entry. Faults stay with their entries; whose each is remains to be settled (see [`super::home`]).
pub fn resolve(kind: Kind, own: &OwnBases, entries: Vec<EntryResult>, bearers: &Bearers) -> Vec<ResolvedResult> {
    let names = Names::of(kind, entries.iter().flatten(), bearers);
    let context = Context { kind, own, names: &names, bearers };
    let mut seen = Seen::default();
    entries.into_iter().map(|entry| entry.and_then(|entry| resolve_entry(context, entry, &mut seen))).collect()
}

/// What the entries so far are called, and what they write.
#[derive(Default)]
struct Seen {
    names: HashSet<String>,
    streams: HashSet<StreamId>,
}

/// What references are resolved with.
#[derive(Clone, Copy)]
struct Context<'a> {
    kind: Kind,
    own: &'a OwnBases,
    names: &'a Names,
    bearers: &'a Bearers,
}

fn resolve_entry(context: Context<'_>, mut entry: Entry, seen: &mut Seen) -> ResolvedResult {
    let index = entry.index;
    let Some(aggregate_type) = aggregate_for(&entry.resource_type) else {
        let pointer = format!("/entry/{index}/request/url");
        let reason = reason_not_kept(&entry.resource_type).unwrap_or("Resources of this type are not filed here.");
        return Err(vec![Fault::invalid(pointer, "unsupported-type", reason)]);
    };
    aim(&mut entry, context.bearers)?;
    // An entry may be called the same by both.
    let names_of_it: HashSet<String> = entry.full_url.iter().cloned().chain([entry.name()]).collect();
    if names_of_it.into_iter().any(|name| !seen.names.insert(name)) {
        let detail = "Another entry has the same type and id, or the same fullUrl.";
        return Err(vec![Fault::invalid(format!("/entry/{index}"), "repeated-entry", detail)]);
    }
    if entry.if_none_exist.as_ref().is_some_and(|criterion| context.bearers.are_several(criterion)) {
        return Err(vec![Fault::several_bearers(format!("/entry/{index}/request/ifNoneExist"))]);
    }
    let bearer = entry.if_none_exist.as_ref().and_then(|criterion| context.bearers.get(criterion)).copied();
    let existing = bearer.or_else(|| context.names.created_before(&entry));
    if existing.is_none() && !seen.streams.insert((aggregate_type.to_owned(), entry.id)) {
        let detail = "An entry of another type has the same id. Ids are unique among such types here.";
        return Err(vec![Fault::invalid(format!("/entry/{index}"), "repeated-id", detail)]);
    }
    let mut found = Found::default();
    let mut said = None;
    // Whoever updates speaks of this server's resources, wherever the entry is from.
    let home = entry.base.as_deref().filter(|_| entry.method == Method::Post);
    if let Some(resource) = entry.resource.as_mut().filter(|_| existing.is_none()) {
        let resolver = Resolver { context, base: entry.base.as_deref(), home };
        resolver.find_patient(resource);
        found = resolver.rewrite(index, resource)?;
        said = Some(whose(resource));
    }
    let Found { refers_to, versions, version_lost, .. } = found;
    let whose = said;
    Ok(Resolved { entry, aggregate_type, whose, subject: None, refers_to, existing, versions, version_lost })
}

/// Whom an update or a deletion is about that names an identifier. An update that is about nobody creates.
fn aim(entry: &mut Entry, bearers: &Bearers) -> Result<(), Vec<Fault>> {
    let Some(criterion) = entry.condition.take() else { return Ok(()) };
    if bearers.are_several(&criterion) {
        return Err(vec![Fault::several_bearers(format!("/entry/{}/request/url", entry.index))]);
    }
    match bearers.get(&criterion) {
        Some(bearer) => {
            entry.id = *bearer;
            if let Some(resource) = &mut entry.resource {
                resource.set_id(*bearer);
            }
        }
        None if entry.method == Method::Put => entry.if_none_exist = Some(criterion),
        None => {
            let pointer = format!("/entry/{}/request/url", entry.index);
            return Err(vec![Fault::invalid(pointer, "unknown-resource", "There is no such resource.")]);
        }
    }
    Ok(())
}

/// What the references of an entry come to.
#[derive(Default)]
struct Found {
    refers_to: HashSet<Named>,
    versions: HashMap<String, Named>,
    version_lost: bool,
    nowhere: HashSet<String>,
    several: HashSet<String>,
}

/// What a reference comes to.
enum Target {
    /// Nothing to be done about it.
    Leave,
    /// A resource of ours.
    Resource {
        named: Named,
        version: Option<Version>,
        /// Outside of what is stored together; it has to exist.
        outside: bool,
    },
    Nowhere,
    /// Several bear the identifier that it goes by.
    Several,
}

/// A version that a reference names.
struct Version {
    text: String,
    /// The source counts its versions itself.
    foreign: bool,
}

/// Resolves the references of one entry.
struct Resolver<'a> {
    context: Context<'a>,
    /// What its relative references are relative to.
    base: Option<&'a str>,
    /// The same for those that lead out of the bundle.
    home: Option<&'a str>,
}

impl Resolver<'_> {
    /// Rewrites the links of a resource.
    fn rewrite(&self, index: usize, resource: &mut Resource) -> Result<Found, Vec<Fault>> {
        let mut found = Found::default();
        rewrite_links(resource, &mut |link, text| {
            let new = match link {
                Link::Reference => found.take(self.target(text), text),
                Link::Url => self.url(text),
                Link::Uuid => self.entry(text).map(|(_, id)| format!("urn:uuid:{id}")),
            };
            new.filter(|new| new != text)
        });
        if found.nowhere.is_empty() && found.several.is_empty() {
            return Ok(found);
        }
        let mut broken = faults(index, resource, |text| found.nowhere.contains(text));
        broken.extend(ambiguous(index, resource, |text| found.several.contains(text)));
        Err(broken)
    }

    fn target(&self, text: &str) -> Target {
        let stripped = self.context.own.strip(text);
        let (ours, (name, version)) = (stripped.is_some(), without_version(stripped.unwrap_or(text)));
        let (base, home) = if ours { (None, None) } else { (self.base, self.home) };
        let foreign = !ours && (base.is_some() || name.contains(':'));
        let version = version.map(|text| Version { text: text.to_owned(), foreign });
        match self.context.names.named(name, base) {
            Called::Entry(named) => return self.inside(named.clone(), version),
            Called::Several => return Target::Nowhere,
            Called::Nobody => {}
        }
        match Reference::parse(name) {
            Reference::Resource { resource_type, id } if aggregate_for(&resource_type).is_some() => {
                let named = (resource_type, id);
                if self.context.names.contains(&named) {
                    self.inside(named, version)
                } else {
                    Target::Resource { named, version, outside: true }
                }
            }
            Reference::Resource { .. } | Reference::Entry(_) => Target::Nowhere,
            Reference::Conditional { resource_type, system, value } => self.bearer(&resource_type, &system, &value),
            Reference::Malformed => imported(home, name, version),
            // The rules of form look at these.
            Reference::Contained(_) | Reference::External => Target::Leave,
        }
    }

    /// Another entry of the bundle. What is stored together exists together; entries of a batch are on their own.
    fn inside(&self, named: Named, version: Option<Version>) -> Target {
        Target::Resource { named, version, outside: self.context.kind == Kind::Batch }
    }

    /// Gives the patient a reference who is named by a record number only.
    fn find_patient(&self, resource: &mut Resource) {
        if let Some(id) = patient_criterion(resource).and_then(|criterion| self.who_bears(&criterion)) {
            name_patient(resource, id);
        }
    }

    fn who_bears(&self, criterion: &Criterion) -> Option<Uuid> {
        let here = self.context.names.bearing(criterion).filter(|_| self.context.kind == Kind::Transaction);
        here.or_else(|| self.context.bearers.get(criterion).copied())
    }

    fn bearer(&self, resource_type: &str, system: &str, value: &str) -> Target {
        let criterion = Criterion::new(resource_type, system, value);
        let found = self.who_bears(&criterion);
        let named = found.map(|id| (resource_type.to_owned(), id));
        match named {
            // Who bears an identifier exists: the log has just said so.
            Some(named) => Target::Resource { named, version: None, outside: false },
            None if self.context.bearers.are_several(&criterion) => Target::Several,
            None => Target::Nowhere,
        }
    }

    /// The entry that a URL leads to.
    fn entry(&self, text: &str) -> Option<Named> {
        if self.context.names.is_definition(text) {
            return None;
        }
        let stripped = self.context.own.strip(text);
        let base = self.base.filter(|_| stripped.is_none());
        let (name, _) = without_version(stripped.unwrap_or(text));
        match self.context.names.named(name, base) {
            Called::Entry(named) => Some(named.clone()),
            Called::Several | Called::Nobody => None,
        }
    }

    /// Where a URL leads if it leads to an entry of the bundle; a part of it stays that part.
    fn url(&self, text: &str) -> Option<String> {
        let (whole, part) = text.find('#').map_or((text, ""), |at| text.split_at(at));
        let (resource_type, id) = self.entry(whole)?;
        Some(format!("{resource_type}/{id}{part}"))
    }
}

impl Found {
    /// Takes note of a target; answers how it is written.
    fn take(&mut self, target: Target, text: &str) -> Option<String> {
        let Target::Resource { named, version, outside } = target else {
            match target {
                Target::Nowhere => drop(self.nowhere.insert(text.to_owned())),
                Target::Several => drop(self.several.insert(text.to_owned())),
                Target::Leave | Target::Resource { .. } => {}
            }
            return None;
        };
        let mut new = format!("{}/{}", named.0, named.1);
        if let Some(Version { text, foreign }) = version {
            self.version_lost |= foreign && outside;
            if !(foreign && outside) {
                new = format!("{new}/_history/{text}");
            }
            if foreign && !outside {
                self.versions.insert(new.clone(), named.clone());
            }
        }
        if outside {
            self.refers_to.insert(named);
        }
        Some(new)
    }
}

/// Something that came under an id that is no UUID: it has the id here that such an entry gets.
fn imported(home: Option<&str>, name: &str, version: Option<Version>) -> Target {
    let typed = name.split_once('/').filter(|(resource_type, id)| is_resource_type(resource_type) && is_fhir_id(id));
    let found = typed.and_then(|(resource_type, id)| {
        let id = aggregate_for(resource_type).and_then(|_| foreign_id(home, resource_type, id))?;
        Some((resource_type.to_owned(), id))
    });
    // The rules of form refuse what it is not.
    found.map_or(Target::Leave, |named| Target::Resource { named, version, outside: true })
}

/// A fault for each reference of a resource that `broken` picks.
pub fn faults(index: usize, resource: &Resource, broken: impl Fn(&str) -> bool) -> Vec<Fault> {
    let place = in_resource(index);
    let broken = references(resource).into_iter().filter(|(_, text)| broken(text));
    broken.map(|(pointer, _)| Fault::unresolved(pointer).under(&place)).collect()
}

/// The same for references by an identifier that several bear.
fn ambiguous(index: usize, resource: &Resource, broken: impl Fn(&str) -> bool) -> Vec<Fault> {
    let place = in_resource(index);
    let broken = references(resource).into_iter().filter(|(_, text)| broken(text));
    broken.map(|(pointer, _)| Fault::several_bearers(pointer).under(&place)).collect()
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

/// The record number by which a resource names its patient, if it does so without a reference.
fn patient_criterion(resource: &Resource) -> Option<Criterion> {
    patient_identifier(resource).map(|(system, value)| Criterion::new("Patient", system, value))
}
