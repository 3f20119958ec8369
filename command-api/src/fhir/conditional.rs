//! Conditional references and conditional creates: who bears this identifier?
//!
//! Answered by the claims: an identifier of a directory entry and a medical record number are claimed by whoever bears
//! it, so the answer does not lag behind as a search would.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use nexus_domain::fhir::{identifier_of, is_found_by_identifier};
use nexus_domain::types::Claim;
use nexus_event_store::{Error, EventLog};
use uuid::Uuid;

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
    pub async fn bearers(&self, criteria: HashSet<Criterion>) -> Result<HashMap<Criterion, Uuid>, Error> {
        let mut found = HashMap::with_capacity(criteria.len());
        let (mut asked, mut claims) = (Vec::new(), Vec::new());
        for criterion in criteria {
            match (self.directory.get(&criterion), criterion.claim()) {
                (Some(id), _) => {
                    found.insert(criterion, id);
                }
                (None, Some(claim)) => {
                    asked.push(criterion);
                    claims.push(stored_claim(claim));
                }
                (None, None) => {}
            }
        }
        if claims.is_empty() {
            return Ok(found);
        }
        let holders = self.log.holders(&claims).await?;
        for (criterion, holder) in asked.into_iter().zip(holders) {
            let Some((_, id)) = holder else { continue };
            if criterion.resource_type != "Patient" {
                self.directory.insert(criterion.clone(), id);
            }
            found.insert(criterion, id);
        }
        Ok(found)
    }
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
