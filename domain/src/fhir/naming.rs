//! What a person calls a resource: the line of a chart or timeline, and the code beside it.
//!
//! What a resource is about stands before its kind or category, words before codes, and a text before a display.

use serde_json::Value;

use super::{Reference, Resource};

/// Where a resource says what it is about, the most telling first: a `CodeableConcept` or several, a bare `Coding`, a
/// reference with a display, or a text.
const SUBJECT: &[&str] = &["/code", "/vaccineCode", "/medicationCodeableConcept", "/medicationReference", "/event"];

/// The same where the type has none of these.
const ABOUT: &[&str] = &[
    "/type",
    "/itemCodeableConcept",
    "/itemReference",
    "/suppliedItem/itemCodeableConcept",
    "/suppliedItem/itemReference",
    "/productCodeableConcept",
    "/codeCodeableConcept",
    "/codeReference",
    "/reaction/0/substance",
    "/serviceType",
    "/appointmentType",
    "/procedureCode",
    "/morphology",
    "/location",
    "/targetDisease",
    "/recommendation/0/vaccineCode",
    "/relationship",
    "/topic",
    "/title",
    "/description",
    "/name",
    "/deviceName/0/name",
    "/device",
    "/oralDiet/type",
    "/content/title",
    "/content/0/attachment/title",
    "/activity",
    "/series/0/modality",
    "/reaction/0/manifestation",
    "/condition/0/code",
    "/payload/0/contentString",
];

/// What says of which kind it is, or why: better than nothing.
const KIND: &[&str] = &["/class", "/scope", "/reasonCode", "/reason", "/category", "/subtype"];

/// What the resource is called, in words if there are any; else by its code. Nothing if it says neither: then the resource
/// type is all there is to call it, or the directory knows the medicine.
pub fn called(resource: &Resource) -> Option<&str> {
    let words = |pointers: &[&str]| pointers.iter().find_map(|pointer| words(resource, pointer));
    let code = |pointers: &[&str]| pointers.iter().find_map(|pointer| Some(coded(resource.at(pointer)?)?.1));
    let called = |pointers: &[&str]| words(pointers).or_else(|| code(pointers));
    let kind = || if is_named_elsewhere(resource) { None } else { called(KIND) };
    called(SUBJECT).or_else(|| called(ABOUT)).or_else(kind)
}

/// Whether the directory knows the name: that is better than a kind.
fn is_named_elsewhere(resource: &Resource) -> bool {
    let reference = resource.text_at("/medicationReference/reference").map(Reference::parse);
    matches!(reference, Some(Reference::Resource { .. }))
}

/// System and code of what the resource is about; of its kind only if it has no element to say more.
pub fn code_of(resource: &Resource) -> Option<(&str, &str)> {
    let code = |pointers: &[&str]| pointers.iter().find_map(|pointer| coded(resource.at(pointer)?));
    let contained = || coded(contained_medication(resource)?.get("code")?);
    let is_said = SUBJECT.iter().any(|pointer| resource.at(pointer).is_some());
    let otherwise = || if is_said { None } else { code(ABOUT).or_else(|| code(KIND)) };
    code(SUBJECT).or_else(contained).or_else(otherwise)
}

/// The Medication that a resource contains and refers to.
pub fn contained_medication(resource: &Resource) -> Option<&Value> {
    let id = resource.text_at("/medicationReference/reference")?.strip_prefix('#')?;
    resource.items("contained").iter().find(|item| item.get("id").and_then(Value::as_str) == Some(id))
}

/// The words of a `CodeableConcept` (or of the first of several that has any).
pub fn words_of(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text.as_str()).filter(|text| !text.trim().is_empty()),
        Value::Array(items) => items.iter().find_map(words_of),
        concept => {
            let named = |name: &str| concept.get(name).filter(|value| value.is_string()).and_then(words_of);
            let displays =
                || concept.get("coding")?.as_array()?.iter().find_map(|coding| words_of(coding.get("display")?));
            named("text").or_else(displays).or_else(|| named("display"))
        }
    }
}

/// System and code of the first coding that has a code, in a `CodeableConcept`, a `Coding`, or the first of several.
pub fn coded(value: &Value) -> Option<(&str, &str)> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    match value {
        Value::Array(items) => items.iter().find_map(coded),
        concept => match concept.get("coding") {
            Some(codings) => codings.as_array()?.iter().find_map(coded),
            None => Some((text("system").unwrap_or_default(), text("code")?)),
        },
    }
}

/// The name of a resource type as words: `Medication request`.
pub fn type_in_words(resource_type: &str) -> String {
    let mut words = String::with_capacity(resource_type.len() + 4);
    for letter in resource_type.chars() {
        match letter {
            upper if upper.is_ascii_uppercase() && !words.is_empty() => words.extend([' ', upper.to_ascii_lowercase()]),
            other => words.push(other),
        }
    }
    words
}

fn words<'a>(resource: &'a Resource, pointer: &str) -> Option<&'a str> {
    // The names of people are no names of things.
    let value = resource.at(pointer).filter(|value| pointer != "/name" || value.is_string())?;
    // A code such as `AllergyIntolerance.type` says which kind it is, and is no text.
    let is_text = matches!(pointer, "/title" | "/description" | "/name") || pointer.matches('/').count() > 1;
    if value.is_string() && !is_text {
        return None;
    }
    words_of(value).or_else(|| contained_words(resource, pointer))
}

fn contained_words<'a>(resource: &'a Resource, pointer: &str) -> Option<&'a str> {
    let medication = contained_medication(resource).filter(|_| pointer == "/medicationReference")?;
    let code = medication.get("code");
    let ingredients = medication.get("ingredient").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let ingredients =
        || ingredients.iter().find_map(|item| words_of(item.get("itemCodeableConcept").or(item.get("itemReference"))?));
    code.and_then(words_of).or_else(ingredients).or_else(|| Some(coded(code?)?.1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(json: Value, name: Option<&str>, code: Option<&str>) {
        let resource = Resource::parse(json).unwrap();
        assert_eq!(called(&resource), name);
        assert_eq!(code_of(&resource).map(|(_, code)| code), code);
    }

    #[test]
    fn what_it_is_about_stands_before_its_kind() {
        let kind = json!([{"coding": [{"code": "social", "display": "Social history"}]}]);
        let of = |code: Value| json!({"resourceType": "Observation", "category": kind, "code": code});
        check(of(json!({"text": "Sleeps badly"})), Some("Sleeps badly"), None);
        check(of(json!({"coding": [{"code": "72166-2"}]})), Some("72166-2"), Some("72166-2"));
        check(of(json!({"coding": [{"display": "Smoking"}, {"code": "1"}]})), Some("Smoking"), Some("1"));
        check(of(json!({"coding": [{"code": "1"}, {"code": "2", "display": "Two"}]})), Some("Two"), Some("1"));
        check(json!({"resourceType": "CarePlan", "category": kind}), Some("Social history"), Some("social"));
        check(
            json!({"resourceType": "Procedure", "code": {"coding": [{"code": "7"}]}, "location": {"display": "Theatre"}}),
            Some("7"),
            Some("7"),
        );
        check(json!({"resourceType": "Patient", "name": [{"text": "Ann"}]}), None, None);
    }

    #[test]
    fn a_medicine_is_named_in_many_ways() {
        let of = |more: Value| {
            let mut json = json!({"resourceType": "MedicationStatement", "category": {"text": "At home"}});
            json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json
        };
        let reference = |text: &str| json!({"reference": text});
        check(of(json!({"medicationReference": {"display": "Senna"}})), Some("Senna"), None);
        let contained = |inner: Value| of(json!({"contained": [inner], "medicationReference": reference("#m")}));
        let coded = json!({"coding": [{"code": "9"}]});
        check(
            contained(json!({"resourceType": "Medication", "id": "m", "code": {"text": "Senna"}})),
            Some("Senna"),
            None,
        );
        check(contained(json!({"resourceType": "Medication", "id": "m", "code": coded})), Some("9"), Some("9"));
        let ingredient = json!([{"itemCodeableConcept": {"text": "Sennoside"}}]);
        check(
            contained(json!({"resourceType": "Medication", "id": "m", "ingredient": ingredient})),
            Some("Sennoside"),
            None,
        );
    }

    #[test]
    fn a_type_reads_as_words() {
        assert_eq!(type_in_words("MedicationRequest"), "Medication request");
        assert_eq!(type_in_words("Basic"), "Basic");
    }
}
