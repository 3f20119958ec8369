//! What the chart shows of an entry beyond codes and times; sealed, as names hide in displays.

use nexus_domain::fhir::{Resource, naming};
use serde_json::{Map, Value};

use super::Section;

/// The elements that each section shows as they stand in the resource.
fn elements(section: Section) -> &'static [&'static str] {
    match section {
        Section::Problems => &[
            "onsetDateTime",
            "abatementDateTime",
            "recordedDate",
            "severity",
            "bodySite",
            "encounter",
            "clinicalStatus",
            "verificationStatus",
        ],
        Section::Allergies => &[
            "criticality",
            "type",
            "category",
            "reaction",
            "onsetDateTime",
            "recordedDate",
            "clinicalStatus",
            "verificationStatus",
        ],
        Section::Medications => &[
            "status",
            "intent",
            "doNotPerform",
            "authoredOn",
            "effectivePeriod",
            "dosageInstruction",
            "dosage",
            "requester",
            "reasonCode",
            "statusReason",
        ],
        Section::Encounters => &["class", "period", "reasonCode", "location", "serviceProvider", "participant"],
        Section::Procedures => {
            &["performedDateTime", "performedPeriod", "reasonCode", "location", "encounter", "statusReason"]
        }
        Section::Immunizations => &[
            "occurrenceDateTime",
            "occurrenceString",
            "primarySource",
            "lotNumber",
            "location",
            "isSubpotent",
            "statusReason",
        ],
        Section::Documents => {
            &["date", "effectiveDateTime", "issued", "category", "author", "performer", "conclusion", "result"]
        }
    }
}

/// The private part of an entry.
pub(super) fn private(section: Section, resource: &Resource) -> Map<String, Value> {
    let shown = elements(section).iter().filter_map(|name| Some(((*name).to_owned(), resource.get(name)?.clone())));
    let mut private = Map::new();
    private.insert("display".to_owned(), naming::called(resource).map_or(Value::Null, Value::from));
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
