//! What the entries of a bundle may be called by references of other entries.

use std::collections::{HashMap, HashSet};

use nexus_domain::fhir::is_directory_type;
use uuid::Uuid;

use super::bundle::Entry;
use super::conditional::Criterion;
use crate::existence::Named;

/// The names of a bundle's entries.
#[derive(Default)]
pub struct Names {
    /// `urn:uuid:…`, a full URL, or `Type/id` with an id that is no UUID → type and final id.
    by_text: HashMap<String, (String, Uuid)>,
    /// Nothing for an identifier that several entries bear.
    by_identifier: HashMap<Criterion, Option<Uuid>>,
    resources: HashSet<Named>,
}

impl Names {
    /// Collects the names. `bearers` are those who bore the identifiers of conditional creates before.
    pub fn of<'a>(entries: impl Iterator<Item = &'a Entry>, bearers: &HashMap<Criterion, Uuid>) -> Self {
        let mut names = Self::default();
        for entry in entries {
            let existing = entry.if_none_exist.as_ref().and_then(|criterion| bearers.get(criterion));
            names.add(entry, existing.copied().unwrap_or(entry.id));
        }
        names
    }

    fn add(&mut self, entry: &Entry, id: Uuid) {
        let target = (entry.resource_type.clone(), id);
        for alias in &entry.aliases {
            self.by_text.insert(alias.clone(), target.clone());
        }
        self.by_text.insert(entry.name(), target);
        self.resources.insert((entry.resource_type.clone(), id));
        if entry.resource_type == "Patient" || is_directory_type(&entry.resource_type) {
            self.add_identifiers(entry, id);
        }
    }

    fn add_identifiers(&mut self, entry: &Entry, id: Uuid) {
        let Some(resource) = &entry.resource else { return };
        for identifier in resource.items("identifier") {
            let text = |name: &str| identifier.get(name).and_then(serde_json::Value::as_str);
            let (Some(system), Some(value)) = (text("system"), text("value")) else { continue };
            let borne = self.by_identifier.entry(Criterion::new(&entry.resource_type, system, value));
            borne.and_modify(|bearer| *bearer = bearer.filter(|other| *other == id)).or_insert(Some(id));
        }
    }

    /// The type and id of the entry with this name.
    pub fn named(&self, text: &str) -> Option<&(String, Uuid)> {
        self.by_text.get(text)
    }

    /// The entry that bears this identifier.
    pub fn bearing(&self, criterion: &Criterion) -> Option<Uuid> {
        self.by_identifier.get(criterion).copied().flatten()
    }

    /// Whether an entry of the bundle is this resource.
    pub fn contains(&self, named: &Named) -> bool {
        self.resources.contains(named)
    }
}
