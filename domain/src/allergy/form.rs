//! The form and sense of an AllergyIntolerance.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::state::{Status, status_of};
use crate::common::{check_code, check_concept_if_any, check_not_after, check_shape, check_value_set};
use crate::fhir::Resource;
use crate::types::FormError;

pub(super) const CLINICAL: &str = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical";
pub(super) const VERIFICATION: &str = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification";
const CLINICAL_CODES: &[&str] = &["active", "inactive", "resolved"];
const VERIFICATION_CODES: &[&str] = &["unconfirmed", "confirmed", "refuted", "entered-in-error"];
const TYPE_CODES: &[&str] = &["allergy", "intolerance"];
const CATEGORY_CODES: &[&str] = &["food", "medication", "environment", "biologic"];
const CRITICALITY_CODES: &[&str] = &["low", "high", "unable-to-assess"];
const TIMES: &[&str] = &["/onsetDateTime", "/onsetPeriod/start", "/recordedDate", "/lastOccurrence"];
const ELEMENTS: &[&str] = &[
    "identifier[]",
    "clinicalStatus",
    "verificationStatus",
    "type",
    "category[]",
    "criticality",
    "code",
    "patient",
    "encounter",
    "onset*",
    "recordedDate",
    "recorder",
    "asserter",
    "lastOccurrence",
    "note[]",
    "reaction[]",
];

pub(super) fn check(resource: &Resource, now: DateTime<Utc>) -> Result<(), FormError> {
    check_shape(resource, "AllergyIntolerance", ELEMENTS)?;
    check_patient(resource)?;
    check_concept_if_any(resource.get("code"), "/code")?;
    check_code(resource, "clinicalStatus", CLINICAL, CLINICAL_CODES)?;
    check_code(resource, "verificationStatus", VERIFICATION, VERIFICATION_CODES)?;
    check_status_pair(resource)?;
    check_optional(resource.get("type"), "/type", TYPE_CODES)?;
    check_optional(resource.get("criticality"), "/criticality", CRITICALITY_CODES)?;
    for (index, category) in resource.items("category").iter().enumerate() {
        check_value_set(category, &format!("/category/{index}"), CATEGORY_CODES)?;
    }
    check_not_after(resource, now, TIMES)
}

/// FHIR ait-1 and ait-2: there is a clinical status exactly if the allergy was not entered in error.
fn check_status_pair(resource: &Resource) -> Result<(), FormError> {
    match (status_of(resource), resource.get("clinicalStatus")) {
        (Status::EnteredInError, Some(_)) => Err(FormError::new(
            "not-allowed-here",
            "/clinicalStatus",
            "What was entered in error has no clinical status.",
        )),
        (Status::Active | Status::Past | Status::Refuted, None) => Err(FormError::missing("/clinicalStatus")),
        _ => Ok(()),
    }
}

fn check_patient(resource: &Resource) -> Result<(), FormError> {
    resource.text_at("/patient/reference").map(|_| ()).ok_or_else(|| FormError::missing("/patient/reference"))
}

fn check_optional(value: Option<&Value>, pointer: &str, codes: &[&str]) -> Result<(), FormError> {
    value.map_or(Ok(()), |value| check_value_set(value, pointer, codes))
}
