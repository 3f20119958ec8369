//! Checks of form and sense that several resource types need.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

use crate::fhir::{FhirDateTime, Resource, check_elements, check_form, check_text, codings};
use crate::types::FormError;

/// The type, its elements, and what FHIR demands of any resource.
pub(crate) fn check_shape(resource: &Resource, resource_type: &str, elements: &[&str]) -> Result<(), FormError> {
    if resource.resource_type() != resource_type {
        return Err(FormError::new("wrong-resource-type", "/resourceType", "Another resource type is expected here."));
    }
    check_elements(resource, elements)?;
    check_form(resource)
}

/// The subject is named.
pub(crate) fn check_subject(resource: &Resource) -> Result<(), FormError> {
    resource.text_at("/subject/reference").map(|_| ()).ok_or_else(|| FormError::missing("/subject/reference"))
}

/// A required element of type `code`, such as `status`.
pub(crate) fn check_status(resource: &Resource, element: &str, codes: &[&str]) -> Result<(), FormError> {
    match resource.get(element) {
        None => Err(FormError::missing(format!("/{element}"))),
        Some(value) => check_value_set(value, &format!("/{element}"), codes),
    }
}

/// A code, wherever it stands.
pub(crate) fn check_value_set(value: &Value, pointer: &str, codes: &[&str]) -> Result<(), FormError> {
    match value.as_str() {
        None => Err(FormError::wrong_type(pointer)),
        Some(code) if codes.contains(&code) => Ok(()),
        Some(_) => Err(FormError::unknown_code(pointer)),
    }
}

/// An optional concept that has a code from this system.
pub(crate) fn check_code(resource: &Resource, element: &str, system: &str, codes: &[&str]) -> Result<(), FormError> {
    let Some(concept) = resource.get(element) else { return Ok(()) };
    let known =
        codings(Some(concept)).iter().any(|coding| coding.system == system && codes.contains(&coding.code.as_str()));
    if known { Ok(()) } else { Err(FormError::unknown_code(format!("/{element}"))) }
}

/// A required concept that says something: a code, or at least a text.
pub(crate) fn check_concept(concept: Option<&Value>, pointer: &str) -> Result<(), FormError> {
    let Some(concept) = concept else { return Err(FormError::missing(pointer)) };
    if !concept.is_object() {
        return Err(FormError::wrong_type(pointer));
    }
    let says = !codings(Some(concept)).is_empty() || concept.get("text").is_some_and(Value::is_string);
    if says { Ok(()) } else { Err(FormError::missing(pointer)) }
}

/// A concept that FHIR does not demand, or lets be absent for a reason that an extension gives
/// (<https://hl7.org/fhir/R4/extension-data-absent-reason.html>).
pub(crate) fn check_concept_if_any(concept: Option<&Value>, pointer: &str) -> Result<(), FormError> {
    match concept {
        None => Ok(()),
        Some(concept) if concept.is_object() && concept.get("extension").is_some_and(Value::is_array) => Ok(()),
        some => check_concept(some, pointer),
    }
}

/// A reason may be left out, but not left empty.
pub(crate) fn check_reason(reason: Option<&str>) -> Result<(), FormError> {
    reason.map_or(Ok(()), |text| check_text("reason", text, "/reason"))
}

/// A moment that can't lie in the future.
pub(crate) fn check_not_after(resource: &Resource, now: DateTime<Utc>, pointers: &[&str]) -> Result<(), FormError> {
    match pointers.iter().find(|pointer| parsed_time(resource, pointer).is_some_and(|time| time.is_after(now))) {
        None => Ok(()),
        Some(pointer) => Err(FormError::new("in-the-future", *pointer, "This can't lie in the future.")),
    }
}

/// A period ends after it starts. Partial dates count as what they can mean.
pub(crate) fn check_period(resource: &Resource, pointer: &str) -> Result<(), FormError> {
    if resource.at(pointer).is_some_and(|period| !period.is_object()) {
        return Err(FormError::wrong_type(pointer));
    }
    let time = |end: &str| parsed_time(resource, &format!("{pointer}/{end}"));
    match (time("start"), time("end")) {
        (Some(start), Some(end)) if start.earliest > end.latest() => {
            Err(FormError::new("end-before-start", format!("{pointer}/end"), "A period can't end before it starts."))
        }
        _ => Ok(()),
    }
}

/// A date or time at a JSON pointer, if it is there and well formed.
pub(crate) fn parsed_time(resource: &Resource, pointer: &str) -> Option<FhirDateTime> {
    resource.text_at(pointer).and_then(FhirDateTime::parse)
}

/// A moment as FHIR writes it.
pub(crate) fn json_time(time: DateTime<Utc>) -> Value {
    Value::String(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}
