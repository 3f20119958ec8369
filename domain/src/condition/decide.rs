//! The rules of a condition.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::state::Status;
use super::{Condition, ConditionCommand, ConditionEvent, Error};
use crate::common::{
    Refusal, about_patient, check_code, check_concept_if_any, check_not_after, check_shape, check_subject, json_time,
    parsed_time, repeated, same_subject,
};
use crate::fhir::Resource;
use crate::record::Issued;
use crate::types::FormError;

pub(super) const CLINICAL: &str = "http://terminology.hl7.org/CodeSystem/condition-clinical";
pub(super) const VERIFICATION: &str = "http://terminology.hl7.org/CodeSystem/condition-ver-status";
const CLINICAL_CODES: &[&str] = &["active", "recurrence", "relapse", "inactive", "remission", "resolved"];
const VERIFICATION_CODES: &[&str] =
    &["unconfirmed", "provisional", "differential", "confirmed", "refuted", "entered-in-error"];
const ELEMENTS: &[&str] = &[
    "identifier[]",
    "clinicalStatus",
    "verificationStatus",
    "category[]",
    "severity",
    "code",
    "bodySite[]",
    "subject",
    "encounter",
    "onset*",
    "abatement*",
    "recordedDate",
    "recorder",
    "asserter",
    "stage[]",
    "evidence[]",
    "note[]",
];

pub(super) fn decide(state: &Condition, issued: &Issued<ConditionCommand>) -> Result<Vec<ConditionEvent>, Error> {
    match &issued.action {
        ConditionCommand::Record { resource } => record(state, issued, resource),
        ConditionCommand::Amend { resource } => amend(state, issued, resource),
        ConditionCommand::Resolve { abated_at } => resolve(state, issued, *abated_at),
        ConditionCommand::Refute => refute(state),
        ConditionCommand::MarkEnteredInError => mark_entered_in_error(state),
    }
}

fn record(
    state: &Condition,
    issued: &Issued<ConditionCommand>,
    resource: &Resource,
) -> Result<Vec<ConditionEvent>, Error> {
    check(resource, issued.now)?;
    if repeated(state.filed.as_ref(), state.resource.as_ref(), resource)? {
        return Ok(Vec::new());
    }
    let mut notes = Vec::new();
    about_patient(issued, &mut notes)?;
    Ok(vec![ConditionEvent::Recorded { resource: resource.clone(), notes }])
}

fn amend(
    state: &Condition,
    issued: &Issued<ConditionCommand>,
    resource: &Resource,
) -> Result<Vec<ConditionEvent>, Error> {
    check(resource, issued.now)?;
    let standing = standing(state)?;
    if standing.digest() == resource.digest() {
        return Ok(Vec::new());
    }
    same_subject(standing, resource)?;
    let mut notes = Vec::new();
    issued.judge(correctable(state), &mut notes)?;
    Ok(vec![ConditionEvent::Amended { resource: resource.clone(), notes }])
}

fn resolve(
    state: &Condition,
    issued: &Issued<ConditionCommand>,
    abated_at: DateTime<Utc>,
) -> Result<Vec<ConditionEvent>, Error> {
    let standing = standing(state)?;
    if state.status == Status::Resolved {
        return Ok(Vec::new());
    }
    correctable(state)?;
    if abated_at > issued.now {
        return Err(Error::AbatementInFuture);
    }
    let onset = parsed_time(standing, "/onsetDateTime");
    if onset.is_some_and(|onset| onset.earliest > abated_at) {
        return Err(Error::AbatementBeforeOnset);
    }
    let resource = standing
        .clone()
        .with("clinicalStatus", json!({"coding": [{"system": CLINICAL, "code": "resolved"}]}))
        .with("abatementDateTime", json_time(abated_at));
    Ok(vec![ConditionEvent::Resolved { resource, abated_at }])
}

/// FHIR con-3 and con-5: a refuted condition keeps no clinical status that says otherwise.
fn refute(state: &Condition) -> Result<Vec<ConditionEvent>, Error> {
    let standing = standing(state)?;
    match state.status {
        Status::Refuted => return Ok(Vec::new()),
        Status::EnteredInError => return Err(Refusal::EnteredInError.into()),
        Status::Open | Status::Resolved => {}
    }
    let resource = verified_as(
        standing.clone().with("clinicalStatus", json!({"coding": [{"system": CLINICAL, "code": "inactive"}]})),
        "refuted",
    );
    Ok(vec![ConditionEvent::Refuted { resource }])
}

/// FHIR con-5: an erroneous entry has no clinical status.
fn mark_entered_in_error(state: &Condition) -> Result<Vec<ConditionEvent>, Error> {
    let standing = standing(state)?;
    if state.status == Status::EnteredInError {
        return Ok(Vec::new());
    }
    let resource = verified_as(standing.clone().without("clinicalStatus"), "entered-in-error");
    Ok(vec![ConditionEvent::EnteredInError { resource }])
}

fn verified_as(resource: Resource, code: &str) -> Resource {
    resource.with("verificationStatus", json!({"coding": [{"system": VERIFICATION, "code": code}]}))
}

fn standing(state: &Condition) -> Result<&Resource, Error> {
    state.resource.as_ref().ok_or(Error::Unknown)
}

fn correctable(state: &Condition) -> Result<(), Error> {
    match state.status {
        Status::EnteredInError => Err(Refusal::EnteredInError.into()),
        Status::Refuted => Err(Error::Refuted),
        Status::Open | Status::Resolved => Ok(()),
    }
}

/// The rules of form and sense.
fn check(resource: &Resource, now: DateTime<Utc>) -> Result<(), FormError> {
    check_shape(resource, "Condition", ELEMENTS)?;
    check_subject(resource)?;
    check_concept_if_any(resource.get("code"), "/code")?;
    check_code(resource, "clinicalStatus", CLINICAL, CLINICAL_CODES)?;
    check_code(resource, "verificationStatus", VERIFICATION, VERIFICATION_CODES)?;
    check_not_after(resource, now, &["/onsetDateTime", "/abatementDateTime", "/recordedDate"])
}
