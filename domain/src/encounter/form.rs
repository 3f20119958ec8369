//! The rules of form and sense of an encounter.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::state::Step;
use crate::common::{check_not_after, check_period, check_shape, check_status, check_subject, check_value_set};
use crate::fhir::{Coding, Resource, check_text};
use crate::types::FormError;

const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
const DISPOSITION: &str = "http://terminology.hl7.org/CodeSystem/discharge-disposition";
const STATUSES: &[&str] = &[
    "planned",
    "arrived",
    "triaged",
    "in-progress",
    "onleave",
    "finished",
    "cancelled",
    "entered-in-error",
    "unknown",
];
/// ActEncounterCode and its children (<http://terminology.hl7.org/ValueSet/v3-ActEncounterCode>).
const CLASSES: &[&str] = &["AMB", "EMER", "FLD", "HH", "IMP", "ACUTE", "NONAC", "OBSENC", "PRENC", "SS", "VR"];
const LOCATION_STATUSES: &[&str] = &["planned", "active", "reserved", "completed"];
/// <https://hl7.org/fhir/R4/valueset-encounter-discharge-disposition.html>
const DISPOSITIONS: &[&str] =
    &["home", "alt-home", "other-hcf", "hosp", "long", "aadvice", "exp", "psy", "rehab", "snf", "oth"];
const ELEMENTS: &[&str] = &[
    "identifier[]",
    "status",
    "statusHistory[]",
    "class",
    "classHistory[]",
    "type[]",
    "serviceType",
    "priority",
    "subject",
    "episodeOfCare[]",
    "basedOn[]",
    "participant[]",
    "appointment[]",
    "period",
    "length",
    "reasonCode[]",
    "reasonReference[]",
    "diagnosis[]",
    "account[]",
    "hospitalization",
    "location[]",
    "serviceProvider",
    "partOf",
];

pub(super) fn check(resource: &Resource, now: DateTime<Utc>) -> Result<(), FormError> {
    check_shape(resource, "Encounter", ELEMENTS)?;
    check_status(resource, "status", STATUSES)?;
    check_class(resource)?;
    check_subject(resource)?;
    check_period(resource, "/period")?;
    match Step::of(resource) {
        Step::InProgress => check_not_after(resource, now, &["/period/start"])?,
        Step::Finished => check_not_after(resource, now, &["/period/start", "/period/end"])?,
        Step::Expected | Step::Cancelled | Step::EnteredInError => {}
    }
    check_parts(resource)
}

/// The class comes from v3-ActCode as far as it has a code for it (an extensible binding). One that only has words, or an
/// extension that says why it is absent, is a class too.
fn check_class(resource: &Resource) -> Result<(), FormError> {
    let class = resource.get("class").ok_or_else(|| FormError::missing("/class"))?;
    if !class.is_object() {
        return Err(FormError::wrong_type("/class"));
    }
    match (class.get("system").and_then(Value::as_str), class.get("code")) {
        (Some(ACT_CODE), Some(code)) => check_value_set(code, "/class/code", CLASSES),
        (_, Some(code)) if !code.is_string() => Err(FormError::wrong_type("/class/code")),
        _ => Ok(()),
    }
}

fn check_parts(resource: &Resource) -> Result<(), FormError> {
    for (index, location) in resource.items("location").iter().enumerate() {
        location.get("location").ok_or_else(|| FormError::missing(format!("/location/{index}/location")))?;
        if let Some(status) = location.get("status") {
            check_value_set(status, &format!("/location/{index}/status"), LOCATION_STATUSES)?;
        }
        check_period(resource, &format!("/location/{index}/period"))?;
    }
    for (index, past) in resource.items("statusHistory").iter().enumerate() {
        let status = past.get("status").ok_or_else(|| FormError::missing(format!("/statusHistory/{index}/status")))?;
        check_value_set(status, &format!("/statusHistory/{index}/status"), STATUSES)?;
    }
    Ok(())
}

/// A disposition has system and code; one from FHIR's own list has a code of that list.
pub(super) fn check_disposition(disposition: &Coding) -> Result<(), FormError> {
    if disposition.system.trim().is_empty() || disposition.code.trim().is_empty() {
        return Err(FormError::missing("/disposition"));
    }
    check_text("system", &disposition.system, "/disposition/system")?;
    check_text("code", &disposition.code, "/disposition/code")?;
    if let Some(display) = &disposition.display {
        check_text("display", display, "/disposition/display")?;
    }
    if disposition.system == DISPOSITION && !DISPOSITIONS.contains(&disposition.code.as_str()) {
        return Err(FormError::unknown_code("/disposition/code"));
    }
    Ok(())
}
