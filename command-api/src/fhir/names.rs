//! What the entries of a bundle may be called by references of other entries.
//!
//! The rules are those of <https://hl7.org/fhir/R4/bundle.html#references>: a full URL names one entry, and a relative
//! reference is relative to where the entry that makes it comes from. Two sources may both have a `Patient/1`.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use nexus_domain::fhir::is_directory_type;
use uuid::Uuid;

use super::bundle::{Entry, Kind, Method};
use super::conditional::{Bearers, Criterion};
use crate::existence::Named;

/// The names of a bundle's entries.
#[derive(Default)]
pub struct Names {
    /// A full URL, or type and final id → type and final id.
    by_text: HashMap<String, Named>,
    /// Type and id as the entry has them, if that is no UUID → those that are called so, each with its base.
    by_given: HashMap<String, Vec<(Option<String>, Named)>>,
    /// Nothing for an identifier that several entries bear.
    by_identifier: HashMap<Criterion, Option<Uuid>>,
    /// The first entry of those that are created under a condition that nobody meets yet.
    creating: HashMap<Criterion, Uuid>,
    resources: HashSet<Named>,
    /// Full URLs that are the names of definitions, too: `ValueSet.url`.
    definitions: HashSet<String>,
}

/// What a name leads to.
pub enum Called<'a> {
    Entry(&'a Named),
    /// Several entries are called so, and it can't be told which is meant.
    Several,
    Nobody,
}

impl Names {
    /// Collects the names. `bearers` are those who bore the identifiers of conditional entries before.
    pub fn of<'a>(kind: Kind, entries: impl Iterator<Item = &'a Entry>, bearers: &Bearers) -> Self {
        let mut names = Self::default();
        for entry in entries {
            let criterion = entry.if_none_exist.as_ref().or(entry.condition.as_ref());
            let existing = criterion.and_then(|criterion| bearers.get(criterion)).copied();
            let created = criterion.filter(|_| existing.is_none() && kind == Kind::Transaction);
            let first = created.map(|criterion| names.first_under(criterion, entry));
            names.add(entry, existing.or(first).unwrap_or(entry.id));
        }
        names
    }

    fn first_under(&mut self, criterion: &Criterion, entry: &Entry) -> Uuid {
        if entry.method != Method::Post {
            return entry.id;
        }
        *self.creating.entry(criterion.clone()).or_insert(entry.id)
    }

    fn add(&mut self, entry: &Entry, id: Uuid) {
        let target = (entry.resource_type.clone(), id);
        if entry.full_url.is_some()
            && entry.full_url.as_deref() == entry.resource.as_ref().and_then(|it| it.text("url"))
        {
            self.definitions.extend(entry.full_url.clone());
        }
        match &entry.full_url {
            Some(url) if url.contains(':') => drop(self.by_text.insert(url.clone(), target.clone())),
            Some(relative) if entry.given.as_ref() != Some(relative) => self.call(relative, None, &target),
            _ => {}
        }
        if let Some(given) = &entry.given {
            self.call(given, entry.base.clone(), &target);
        }
        self.by_text.insert(entry.name(), target.clone());
        self.resources.insert(target);
        if entry.resource_type == "Patient" || is_directory_type(&entry.resource_type) {
            self.add_identifiers(entry, id);
        }
    }

    fn call(&mut self, name: &str, base: Option<String>, target: &Named) {
        self.by_given.entry(name.to_owned()).or_default().push((base, target.clone()));
    }

    fn add_identifiers(&mut self, entry: &Entry, id: Uuid) {
        let Some(resource) = &entry.resource else { return };
        for identifier in resource.items("identifier") {
            let text = |name: &str| identifier.get(name).and_then(serde_json::Value::as_str);
            let Some(value) = text("value") else { continue };
            let criterion = Criterion::new(&entry.resource_type, text("system").unwrap_or_default(), value);
            let borne = self.by_identifier.entry(criterion);
            borne.and_modify(|bearer| *bearer = bearer.filter(|other| *other == id)).or_insert(Some(id));
        }
    }

    /// The entry with this name, in the mouth of an entry that comes from `base`.
    pub fn named(&self, text: &str, base: Option<&str>) -> Called<'_> {
        let found = self.by_text.get(text).or_else(|| match (normal(text), base) {
            (Cow::Owned(normal), _) => self.by_text.get(&normal),
            (Cow::Borrowed(text), Some(base)) => self.by_text.get(&format!("{base}/{text}")),
            _ => None,
        });
        match found {
            Some(named) => Called::Entry(named),
            None => self.by_given.get(text).map_or(Called::Nobody, |called| among(called, base)),
        }
    }

    /// Whether a URL says what a definition is, wherever it is kept.
    pub fn is_definition(&self, url: &str) -> bool {
        self.definitions.contains(url)
    }

    /// The entry that bears this identifier.
    pub fn bearing(&self, criterion: &Criterion) -> Option<Uuid> {
        self.by_identifier.get(criterion).copied().flatten()
    }

    /// The entry that another one with the same condition is, because it comes first.
    pub fn created_before(&self, entry: &Entry) -> Option<Uuid> {
        let first = self.creating.get(entry.if_none_exist.as_ref()?).copied();
        first.filter(|first| entry.method == Method::Post && *first != entry.id)
    }

    /// Whether an entry of the bundle is this resource.
    pub fn contains(&self, named: &Named) -> bool {
        self.resources.contains(named)
    }
}

/// One without a base is meant first. What another source calls by this name is never meant; whoever names no source may
/// mean the only one.
fn among<'a>(called: &'a [(Option<String>, Named)], base: Option<&str>) -> Called<'a> {
    let nowhere = || called.iter().filter(|(from, _)| from.is_none());
    let somewhere = || called.iter().filter(|(from, _)| from.is_some() && (base.is_none() || from.as_deref() == base));
    match (nowhere().count(), somewhere().count()) {
        (1, _) => nowhere().next().map_or(Called::Nobody, |(_, named)| Called::Entry(named)),
        (0, 1) => somewhere().next().map_or(Called::Nobody, |(_, named)| Called::Entry(named)),
        (0, 0) => Called::Nobody,
        _ => Called::Several,
    }
}

/// A UUID has no case, and neither has the word `urn`.
pub fn normal(text: &str) -> Cow<'_, str> {
    const UUID_URN: &str = "urn:uuid:";
    let id = text.split_at_checked(UUID_URN.len()).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(UUID_URN));
    let normal = id.and_then(|(_, id)| Uuid::parse_str(id).ok()).map(|id| format!("{UUID_URN}{id}"));
    normal.filter(|normal| normal != text).map_or(Cow::Borrowed(text), Cow::Owned)
}
