//! Conditional references and conditional creates: who bears this identifier?
//!
//! Answered by the claims: an identifier of a directory entry and a medical record number are claimed by whoever bears
//! it, so the answer does not lag behind as a search would. A directory identifier may have several bearers; then it leads
//! to none of them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use nexus_domain::fhir::{identifier_of, is_found_by_identifier};
use nexus_domain::types::{Claim, ClaimKind};
use nexus_event_store::{Error, EventLog};
use uuid::Uuid;

use super::group::Taking;
use crate::executor::stored_claim;

/// How many bytes of directory identifiers are remembered.
const REMEMBERED_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// For how long: an identifier may move to another entry.
const REMEMBERED_FOR: Duration = Duration::from_secs(300);

/// A type and an identifier. It may be a patient's, so it is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Criterion {
    resource_type: String,
    system: String,
    value: String,
}

impl fmt::Debug for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Criterion({}, redacted)", self.resource_type)
    }
}

impl Criterion {
    pub fn new(resource_type: &str, system: &str, value: &str) -> Self {
        Self { resource_type: resource_type.to_owned(), system: system.to_owned(), value: value.to_owned() }
    }

    /// Reads `identifier=system|value` about a type that can be looked up by identifier. Nobody can be looked up by an
    /// identifier without a system.
    pub fn parse(resource_type: &str, query: &str) -> Option<Self> {
        let query = query.strip_prefix(resource_type).filter(|rest| rest.starts_with('?')).unwrap_or(query);
        let (system, value) = identifier_of(query)?;
        let criterion = Self::new(resource_type, &system, &value);
        (!system.is_empty() && criterion.claim().is_some()).then_some(criterion)
    }

    /// About how many bytes it takes.
    fn weight(&self) -> u32 {
        let bytes = size_of::<Self>() + self.resource_type.len() + self.system.len() + self.value.len();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// The claim that whoever bears the identifier holds; nothing if identifiers of the type are not claimed.
    pub fn claim(&self) -> Option<Claim> {
        match self.resource_type.as_str() {
            "Patient" => Some(Claim::medical_record_number(&self.system, &self.value)),
            directory if is_found_by_identifier(directory) => {
                Some(Claim::directory_identifier(directory, &self.system, &self.value))
            }
            _ => None,
        }
    }
}

/// Who bears which identifier.
#[derive(Debug, Default)]
pub struct Bearers {
    one: HashMap<Criterion, Uuid>,
    several: HashSet<Criterion>,
}

impl Bearers {
    /// The one who bears the identifier.
    pub fn get(&self, criterion: &Criterion) -> Option<&Uuid> {
        self.one.get(criterion)
    }

    /// Whether more than one bears it.
    pub fn are_several(&self, criterion: &Criterion) -> bool {
        self.several.contains(criterion)
    }

    /// The patients among them.
    pub fn patients_mut(&mut self) -> impl Iterator<Item = &mut Uuid> {
        self.one.iter_mut().filter(|(criterion, _)| criterion.resource_type == "Patient").map(|(_, id)| id)
    }

    fn add(&mut self, criterion: Criterion, holders: impl Iterator<Item = Uuid>) -> Option<Uuid> {
        let holders: HashSet<Uuid> = holders.collect();
        match (holders.len(), holders.into_iter().next()) {
            (1, Some(id)) => {
                self.one.insert(criterion, id);
                Some(id)
            }
            (0, _) => None,
            _ => {
                self.several.insert(criterion);
                None
            }
        }
    }
}

/// Finds bearers of identifiers.
pub struct References {
    log: EventLog,
    directory: moka::sync::Cache<Criterion, Uuid>,
}

impl References {
    pub fn new(log: EventLog) -> Self {
        let directory: moka::sync::Cache<Criterion, Uuid> = moka::sync::Cache::builder()
            .weigher(|criterion: &Criterion, _: &Uuid| criterion.weight())
            .max_capacity(REMEMBERED_BYTES_MAX)
            .time_to_live(REMEMBERED_FOR)
            .build();
        log.on_rollback({
            let directory = directory.clone();
            move || directory.invalidate_all()
        });
        Self { log, directory }
    }

    /// Who bears these identifiers, as far as anybody does. Those that are not remembered cost one round trip together.
    pub async fn bearers(&self, criteria: HashSet<Criterion>) -> Result<Bearers, Error> {
        let mut found = Bearers::default();
        let (mut asked, mut claims) = (Vec::new(), Vec::new());
        for criterion in criteria {
            match (self.directory.get(&criterion), criterion.claim()) {
                (Some(id), _) => {
                    found.one.insert(criterion, id);
                }
                (None, Some(claim)) => {
                    let places = places(claim);
                    asked.push((criterion, places.len()));
                    claims.extend(places.into_iter().map(stored_claim));
                }
                (None, None) => {}
            }
        }
        if claims.is_empty() {
            return Ok(found);
        }
        let mut holders = self.log.holders(&claims).await?.into_iter();
        for (criterion, places) in asked {
            let of_it = holders.by_ref().take(places).flatten().map(|(_, id)| id);
            if let Some(id) = found.add(criterion.clone(), of_it)
                && criterion.resource_type != "Patient"
            {
                self.directory.insert(criterion, id);
            }
        }
        Ok(found)
    }

    /// Forgets who bears what in the directory: somebody may have got an identifier, or given one up.
    pub fn forget(&self) {
        self.directory.invalidate_all();
    }

    /// Forgets who bears what once an identifier has got another bearer, which is rare.
    pub fn heed(&self, takings: &[Taking]) {
        if takings.iter().any(|taking| taking.claim.is_further_place()) {
            self.forget();
        }
    }
}

/// Where the bearers of an identifier are noted.
fn places(claim: Claim) -> Vec<Claim> {
    if claim.kind == ClaimKind::DirectoryIdentifier { claim.places() } else { vec![claim] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_names_one_identifier_of_a_type_that_has_claims() {
        let good = Criterion::new("Practitioner", "http://x", "9");
        for query in ["identifier=http://x|9", "?identifier=http://x|9", "Practitioner?identifier=http%3A%2F%2Fx%7C9"] {
            assert_eq!(Criterion::parse("Practitioner", query), Some(good.clone()), "{query}");
        }
        for query in [
            "identifier=|9",
            "Patient?identifier=http://x|9",
            "identifier=9",
            "name=x",
            "identifier=http://x|",
            "identifier=a|b&name=x",
            "",
        ] {
            assert_eq!(Criterion::parse("Practitioner", query), None, "{query}");
        }
        assert_eq!(Criterion::parse("Observation", "identifier=a|b"), None);
        assert!(Criterion::parse("Patient", "identifier=a|b").is_some());
    }

    #[test]
    fn debug_shows_no_identifier() {
        assert!(!format!("{:?}", Criterion::new("Patient", "urn:x", "Marker")).contains("Marker"));
    }
}
