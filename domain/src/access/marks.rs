//! By what consents and labels may mean a resource, what it gets from others included.

use serde_json::Value;
use uuid::Uuid;

use super::codes::{UNKNOWN, codes};
use super::sensitivity::sensitivity;
use crate::fhir::{Reference, Resource};

/// The level of what nobody can see: the least is shown of it.
const UNKNOWN_LEVEL: i16 = 2;

/// What decides whether a resource is hidden.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// See [`codes()`].
    pub codes: Vec<String>,
    /// See [`sensitivity()`].
    pub sensitivity: i16,
}

impl Marks {
    /// Those that the resource bears itself.
    pub fn of(resource: &Resource) -> Self {
        Self { codes: codes(resource), sensitivity: sensitivity(resource) }
    }

    /// Those of a resource that can't be looked at.
    pub fn unknown() -> Self {
        Self { codes: vec![UNKNOWN.to_owned()], sensitivity: UNKNOWN_LEVEL }
    }

    /// Adds those of a resource that this one gets its code from.
    pub fn lend(&mut self, lender: Self) {
        self.codes.extend(lender.codes);
        self.sensitivity = self.sensitivity.max(lender.sensitivity);
    }
}

/// The resources from which this one gets a code that stands in none of its own elements: the Medication that is ordered
/// or taken, the Condition that is the reason or the diagnosis. Whoever may not see those may not see this one.
pub fn lenders(resource: &Resource) -> Vec<(&'static str, Uuid)> {
    let reasons = resource.items("reasonReference").iter();
    let diagnoses =
        resource.items("diagnosis").iter().filter_map(|it| it.get("condition").or(it.get("diagnosisReference")));
    let references = resource.get("medicationReference").into_iter().chain(reasons).chain(diagnoses);
    let mut lenders: Vec<_> = references.filter_map(lender).collect();
    lenders.sort_unstable();
    lenders.dedup();
    lenders
}

fn lender(reference: &Value) -> Option<(&'static str, Uuid)> {
    match Reference::parse(reference.get("reference")?.as_str()?) {
        Reference::Resource { resource_type, id } => {
            ["Medication", "Condition"].into_iter().find(|it| *it == resource_type).map(|it| (it, id))
        }
        _ => None,
    }
}
