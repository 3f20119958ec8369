//! The form and sense of a MedicationRequest.

use chrono::{DateTime, Utc};

use crate::common::{check_concept_if_any, check_not_after, check_shape, check_status, check_subject, check_value_set};
use crate::fhir::{Resource, check_text};
use crate::types::FormError;

const STATUS_CODES: &[&str] =
    &["active", "on-hold", "cancelled", "completed", "entered-in-error", "stopped", "draft", "unknown"];
const INTENT_CODES: &[&str] =
    &["proposal", "plan", "order", "original-order", "reflex-order", "filler-order", "instance-order", "option"];
const PRIORITY_CODES: &[&str] = &["routine", "urgent", "asap", "stat"];
const ELEMENTS: &[&str] = &[
    "identifier[]",
    "status",
    "statusReason",
    "intent",
    "category[]",
    "priority",
    "doNotPerform",
    "reported*",
    "medication*",
    "subject",
    "encounter",
    "supportingInformation[]",
    "authoredOn",
    "requester",
    "performer",
    "performerType",
    "recorder",
    "reasonCode[]",
    "reasonReference[]",
    "instantiatesCanonical[]",
    "instantiatesUri[]",
    "basedOn[]",
    "groupIdentifier",
    "courseOfTherapyType",
    "insurance[]",
    "note[]",
    "dosageInstruction[]",
    "dispenseRequest",
    "substitution",
    "priorPrescription",
    "detectedIssue[]",
    "eventHistory[]",
];

pub(super) fn check(resource: &Resource, now: DateTime<Utc>) -> Result<(), FormError> {
    check_shape(resource, "MedicationRequest", ELEMENTS)?;
    check_subject(resource)?;
    check_status(resource, "status", STATUS_CODES)?;
    check_status(resource, "intent", INTENT_CODES)?;
    if let Some(priority) = resource.get("priority") {
        check_value_set(priority, "/priority", PRIORITY_CODES)?;
    }
    if resource.get("doNotPerform").is_some_and(|value| !value.is_boolean()) {
        return Err(FormError::wrong_type("/doNotPerform"));
    }
    check_medication(resource)?;
    check_not_after(resource, now, &["/authoredOn"])
}

/// A reason that is asked for says something.
pub(super) fn check_reason(reason: &str) -> Result<(), FormError> {
    if reason.trim().is_empty() { Err(FormError::missing("/reason")) } else { check_text("reason", reason, "/reason") }
}

/// FHIR demands one of two ways to say what is ordered; that both are given is refused for every choice alike.
fn check_medication(resource: &Resource) -> Result<(), FormError> {
    match (resource.get("medicationCodeableConcept"), resource.get("medicationReference")) {
        (None, None) => Err(FormError::missing("/medicationCodeableConcept")),
        (concept @ Some(_), _) => check_concept_if_any(concept, "/medicationCodeableConcept"),
        (None, Some(reference)) if reference.is_object() => Ok(()),
        (None, Some(_)) => Err(FormError::wrong_type("/medicationReference")),
    }
}
