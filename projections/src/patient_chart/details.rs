//! What the chart shows of an entry beyond codes and times; sealed, as names hide in displays.

use nexus_domain::fhir::Resource;
use serde_json::{Map, Value};

use super::Section;
use crate::rows;

/// The elements that each section shows as they stand in the resource.
fn elements(section: Section) -> &'static [&'static str] {
    match section {
        Section::Problems => {
            &["onsetDateTime", "abatementDateTime", "recordedDate", "severity", "bodySite", "encounter"]
        }
        Section::Allergies => &["criticality", "type", "category", "reaction", "onsetDateTime", "recordedDate"],
        Section::Medications => {
            &["authoredOn", "effectivePeriod", "dosageInstruction", "dosage", "requester", "reasonCode", "statusReason"]
        }
        Section::Encounters => &["class", "period", "reasonCode", "location", "serviceProvider", "participant"],
        Section::Procedures => &["performedDateTime", "performedPeriod", "reasonCode", "location", "encounter"],
        Section::Immunizations => &["occurrenceDateTime", "occurrenceString", "primarySource", "lotNumber", "location"],
        Section::Documents => {
            &["date", "effectiveDateTime", "issued", "category", "author", "performer", "conclusion", "result"]
        }
    }
}

/// The private part of an entry.
pub(super) fn private(section: Section, resource: &Resource) -> Map<String, Value> {
    let shown = elements(section).iter().filter_map(|name| Some(((*name).to_owned(), resource.get(name)?.clone())));
    let display = rows::concept_text(main_concept(resource)).or_else(|| resource.text("title"));
    let mut private = Map::new();
    private.insert("display".to_owned(), display.map_or(Value::Null, Value::from));
    private.insert("details".to_owned(), Value::Object(shown.chain(attachments(resource)).collect()));
    private
}

/// The attachments of a document, without their contents: those are read with the resource.
fn attachments(resource: &Resource) -> Option<(String, Value)> {
    let items = resource.items("content").iter().chain(resource.items("presentedForm"));
    let described: Vec<Value> = items.filter_map(|item| describe(item.get("attachment").unwrap_or(item))).collect();
    (!described.is_empty()).then(|| ("attachments".to_owned(), Value::Array(described)))
}

fn describe(attachment: &Value) -> Option<Value> {
    let kept = attachment.as_object()?.iter().filter(|(name, _)| *name != "data");
    Some(Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect()))
}

/// What the entry is about.
pub(super) fn main_concept(resource: &Resource) -> Option<&Value> {
    let names = match resource.resource_type() {
        "Encounter" => &["type", "class"][..],
        "Immunization" => &["vaccineCode"],
        "DocumentReference" | "Composition" => &["type"],
        "MedicationRequest" | "MedicationStatement" => &["medicationCodeableConcept"],
        _ => &["code"],
    };
    names.iter().find_map(|name| resource.get(name))
}
