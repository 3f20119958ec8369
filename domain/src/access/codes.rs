//! What a resource is about, as consents see it.

use std::collections::HashSet;

use serde_json::Value;

use crate::fhir::{Reference, Resource, codings};

/// Elements that say what a resource is about, each a `CodeableConcept` or several of them, the most telling first.
const ABOUT: [&str; 9] = [
    "code",
    "vaccineCode",
    "medicationCodeableConcept",
    "type",
    "serviceType",
    "appointmentType",
    "category",
    "scope",
    "procedureCode",
];
/// Elements that say why, or what was found.
const FOUND: [&str; 4] = ["reasonCode", "valueCodeableConcept", "component", "ingredient"];
/// Stands among the codes of what has one more code that is out of sight: a denial of any code means it, a permit never.
pub const UNKNOWN: &str = "*";

/// The codes by any of which a consent may mean this resource, in order and each once: those of all codings of the elements
/// that say what it is about, components' and contained resources' included. What it gets from resources that stand by
/// themselves is not among them: see [`super::lenders()`]. `Consent.provision.code` applies if the code is found in an instance
/// (<https://hl7.org/fhir/R4/consent-definitions.html#Consent.provision.code>).
pub fn codes(resource: &Resource) -> Vec<String> {
    let mut codes = Vec::new();
    for value in ABOUT.iter().chain(&FOUND).filter_map(|name| resource.get(name)) {
        collect(value, &mut codes);
    }
    // Imaging says what it is about in its series only, and the class of an encounter is a bare coding.
    let modalities = resource.items("series").iter().filter_map(|series| series.get("modality"));
    for bare in modalities.chain(resource.get("class")) {
        codes.extend(bare.get("code").and_then(Value::as_str).map(str::to_owned));
    }
    for contained in contained(resource) {
        codes.extend(self::codes(&contained));
    }
    codes.extend(names_a_stranger(resource).then(|| UNKNOWN.to_owned()));
    // Once, at the end: a resource may bear tens of thousands of them.
    let mut seen = HashSet::new();
    codes.retain(|code| seen.insert(code.clone()));
    codes
}

/// The resources inside of this one.
pub(super) fn contained(resource: &Resource) -> impl Iterator<Item = Resource> {
    resource.items("contained").iter().filter_map(Value::as_object).map(|inner| {
        let mut resource = Resource::default();
        resource.members_mut().extend(inner.clone());
        resource
    })
}

/// Whether the medicine is said by a reference that leads to nothing of ours, so that its code can't be known.
fn names_a_stranger(resource: &Resource) -> bool {
    let Some(named) = resource.get("medicationReference") else { return false };
    match named.get("reference").and_then(Value::as_str).map(Reference::parse) {
        Some(Reference::Contained(_) | Reference::Resource { .. }) => false,
        Some(_) => true,
        None => named.get("identifier").is_some(),
    }
}

fn collect(value: &Value, codes: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, codes)),
        concept => {
            let component = ["code", "valueCodeableConcept", "itemCodeableConcept"].map(|name| concept.get(name));
            for concept in component.into_iter().chain([Some(concept)]) {
                codes.extend(codings(concept).into_iter().map(|coding| coding.code));
            }
        }
    }
}
