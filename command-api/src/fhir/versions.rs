//! References to a version that the source counts: which version of ours is that?

use std::collections::HashMap;

use nexus_domain::aggregate_for;
use nexus_domain::fhir::{rewrite_references, without_version};

use super::group::Told;
use super::known::Known;
use super::resolve::Resolved;
use crate::existence::Named;

/// The versions of what entries refer to in a version of its source's.
#[derive(Default)]
pub struct Versions {
    /// What came with a version before, and which one that is here.
    before: HashMap<(Named, String), i64>,
    /// What the entries became, and the version that they came with.
    now: HashMap<Named, (Option<String>, i64)>,
    wanted: bool,
}

impl Versions {
    /// Looks at what is stored of the resources that these entries refer to so.
    pub fn of(resolved: &[Resolved], known: &Known) -> Self {
        let mut versions = Self::default();
        for named in resolved.iter().flat_map(|resolved| resolved.versions.values()) {
            versions.wanted = true;
            let stream = aggregate_for(&named.0).map(|aggregate_type| (aggregate_type.to_owned(), named.1));
            for event in stream.and_then(|stream| known.streams.get(&stream)).into_iter().flatten() {
                let stated = event.source.as_ref().and_then(|source| source.version_id.clone());
                versions.remember(named, stated, event.header.sequence);
            }
            if let Some(patient) = known.patients.get(&named.1).filter(|_| named.0 == "Patient") {
                let stated = patient.stated.as_ref().and_then(|stated| stated.version_id.clone());
                versions.remember(named, stated, patient.sequence);
            }
        }
        versions
    }

    fn remember(&mut self, named: &Named, stated: Option<String>, sequence: i64) {
        if let Some(stated) = stated {
            self.before.insert((named.clone(), stated), sequence);
        }
    }

    /// What became of an entry that came with this version.
    pub fn became(&mut self, stated: Option<String>, told: &Told) {
        if let Some(sequence) = told.sequence.filter(|_| self.wanted) {
            self.now.insert((told.resource_type.clone(), told.id), (stated, sequence));
        }
    }

    /// Which version of ours the source's is. An entry that does not say its version is the one that is meant.
    fn here(&self, named: &Named, version: &str) -> Option<i64> {
        let before = self.before.get(&(named.clone(), version.to_owned())).copied();
        let now = || self.now.get(named).filter(|(stated, _)| stated.as_ref().is_none_or(|stated| stated == version));
        before.or_else(|| now().map(|(_, sequence)| *sequence))
    }

    /// Writes the versions here into an entry's references. Where it is not known, the reference leads to the resource in
    /// whatever version, which is noted.
    pub fn settle(&self, resolved: &mut Resolved) {
        let Some(resource) = resolved.entry.resource.as_mut().filter(|_| !resolved.versions.is_empty()) else { return };
        let (versions, mut lost) = (&resolved.versions, false);
        rewrite_references(resource, &mut |text| {
            let named = versions.get(text)?;
            let (name, version) = without_version(text);
            let here = self.here(named, version.unwrap_or_default());
            lost |= here.is_none();
            Some(here.map_or_else(|| name.to_owned(), |sequence| format!("{name}/_history/{sequence}")))
        });
        resolved.version_lost |= lost;
    }
}
