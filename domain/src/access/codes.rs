//! What a resource is about, as consents see it.

use serde_json::Value;

use crate::fhir::{Resource, codings};

/// Elements that say what a resource is about, each a `CodeableConcept` or several of them, the most telling first.
pub const ABOUT: [&str; 9] = [
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
const FOUND: [&str; 3] = ["reasonCode", "valueCodeableConcept", "component"];

/// The codes by any of which a consent may mean this resource, in order and each once: those of all codings of the elements
/// that say what it is about, components' included. `Consent.provision.code` applies if the code is found in an instance
/// (<https://hl7.org/fhir/R4/consent-definitions.html#Consent.provision.code>).
pub fn codes(resource: &Resource) -> Vec<String> {
    let mut codes = Vec::new();
    for value in ABOUT.iter().chain(&FOUND).filter_map(|name| resource.get(name)) {
        collect(value, &mut codes);
    }
    // Imaging says what it is about in its series only, and the class of an encounter is a bare coding.
    let modalities = resource.items("series").iter().filter_map(|series| series.get("modality"));
    for bare in modalities.chain(resource.get("class")) {
        add(bare.get("code").and_then(Value::as_str).map(str::to_owned), &mut codes);
    }
    codes
}

fn collect(value: &Value, codes: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, codes)),
        concept => {
            let component = [concept.get("code"), concept.get("valueCodeableConcept")];
            for concept in component.into_iter().chain([Some(concept)]) {
                codings(concept).into_iter().for_each(|coding| add(Some(coding.code), codes));
            }
        }
    }
}

fn add(code: Option<String>, codes: &mut Vec<String>) {
    codes.extend(code.filter(|code| !codes.contains(code)));
}
