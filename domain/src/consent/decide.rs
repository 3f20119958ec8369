//! The rules of a consent.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::state::Status;
use super::{Consent, ConsentCommand, ConsentEvent, Error};
use crate::common::{
    Refusal, about_patient, check_concept, check_not_after, check_period, check_reason, check_shape, check_status,
    repeated, same_subject,
};
use crate::fhir::Resource;
use crate::record::Issued;
use crate::types::FormError;

const STATUS_CODES: &[&str] = &["draft", "proposed", "active", "rejected", "inactive", "entered-in-error"];
const ELEMENTS: &[&str] = &[
    "identifier[]",
    "status",
    "scope",
    "category[]",
    "patient",
    "dateTime",
    "performer[]",
    "organization[]",
    "source*",
    "policy[]",
    "policyRule",
    "verification[]",
    "provision",
];

pub(super) fn decide(state: &Consent, issued: &Issued<ConsentCommand>) -> Result<Vec<ConsentEvent>, Error> {
    match &issued.action {
        ConsentCommand::Grant { resource } => grant(state, issued, resource),
        ConsentCommand::Amend { resource } => amend(state, issued, resource),
        ConsentCommand::Withdraw { reason } => withdraw(state, reason.as_deref()),
    }
}

fn grant(state: &Consent, issued: &Issued<ConsentCommand>, resource: &Resource) -> Result<Vec<ConsentEvent>, Error> {
    check(resource, issued.now)?;
    if repeated(state.filed.as_ref(), state.resource.as_ref(), resource)? {
        return Ok(Vec::new());
    }
    let mut notes = Vec::new();
    about_patient(issued, &mut notes)?;
    issued.judge(granted(resource), &mut notes)?;
    Ok(vec![ConsentEvent::Granted { resource: resource.clone(), notes }])
}

fn granted(resource: &Resource) -> Result<(), Error> {
    if Status::of(resource) == Status::Active { Ok(()) } else { Err(Error::GrantedActive) }
}

fn amend(state: &Consent, issued: &Issued<ConsentCommand>, resource: &Resource) -> Result<Vec<ConsentEvent>, Error> {
    check(resource, issued.now)?;
    let standing = standing(state)?;
    if standing.digest() == resource.digest() {
        return Ok(Vec::new());
    }
    same_subject(standing, resource)?;
    let mut notes = Vec::new();
    issued.judge(may_become(state.status, Status::of(resource)), &mut notes)?;
    Ok(vec![ConsentEvent::Amended { resource: resource.clone(), notes }])
}

/// A correction does not bring back a consent that the patient took back.
fn may_become(from: Status, to: Status) -> Result<(), Error> {
    match from {
        Status::EnteredInError => Err(Refusal::EnteredInError.into()),
        Status::Inactive if !matches!(to, Status::Inactive | Status::EnteredInError) => Err(Error::Withdrawn),
        _ => Ok(()),
    }
}

fn withdraw(state: &Consent, reason: Option<&str>) -> Result<Vec<ConsentEvent>, Error> {
    check_reason(reason)?;
    let standing = standing(state)?;
    match state.status {
        Status::Active => {}
        Status::Inactive => return Ok(Vec::new()),
        Status::Pending | Status::Rejected => return Err(Error::NotActive),
        Status::EnteredInError => return Err(Refusal::EnteredInError.into()),
    }
    let resource = standing.clone().with("status", json!("inactive"));
    Ok(vec![ConsentEvent::Withdrawn { resource, reason: reason.map(str::to_owned) }])
}

fn standing(state: &Consent) -> Result<&Resource, Error> {
    state.resource.as_ref().ok_or(Error::Unknown)
}

/// The rules of form and sense. What a consent allows (`provision.period`) may lie in the future; saying so may not.
fn check(resource: &Resource, now: DateTime<Utc>) -> Result<(), FormError> {
    check_shape(resource, "Consent", ELEMENTS)?;
    if resource.text_at("/patient/reference").is_none() {
        return Err(FormError::missing("/patient/reference"));
    }
    check_status(resource, "status", STATUS_CODES)?;
    check_concept(resource.get("scope"), "/scope")?;
    check_concept(resource.items("category").first(), "/category/0")?;
    check_period(resource, "/provision/period")?;
    check_period(resource, "/provision/dataPeriod")?;
    check_not_after(resource, now, &["/dateTime"])
}
