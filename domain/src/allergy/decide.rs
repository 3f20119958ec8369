//! The rules of an allergy.

use serde_json::json;

use super::form::{CLINICAL, VERIFICATION, check};
use super::state::Status;
use super::{Allergy, AllergyCommand, AllergyEvent, Error};
use crate::common::{Refusal, about_patient, repeated, same_subject};
use crate::fhir::Resource;
use crate::record::Issued;

pub(super) fn decide(state: &Allergy, issued: &Issued<AllergyCommand>) -> Result<Vec<AllergyEvent>, Error> {
    match &issued.action {
        AllergyCommand::Record { resource } => record(state, issued, resource),
        AllergyCommand::Amend { resource } => amend(state, issued, resource),
        AllergyCommand::Refute => refute(state),
        AllergyCommand::MarkEnteredInError => mark_entered_in_error(state),
    }
}

fn record(state: &Allergy, issued: &Issued<AllergyCommand>, resource: &Resource) -> Result<Vec<AllergyEvent>, Error> {
    check(resource, issued.now)?;
    if repeated(state.filed.as_ref(), state.resource.as_ref(), resource)? {
        return Ok(Vec::new());
    }
    let mut notes = Vec::new();
    about_patient(issued, &mut notes)?;
    Ok(vec![AllergyEvent::Recorded { resource: resource.clone(), notes }])
}

fn amend(state: &Allergy, issued: &Issued<AllergyCommand>, resource: &Resource) -> Result<Vec<AllergyEvent>, Error> {
    check(resource, issued.now)?;
    let standing = standing(state)?;
    if standing.digest() == resource.digest() {
        return Ok(Vec::new());
    }
    same_subject(standing, resource)?;
    let mut notes = Vec::new();
    issued.judge(correctable(state), &mut notes)?;
    Ok(vec![AllergyEvent::Amended { resource: resource.clone(), notes }])
}

/// FHIR ait-1: a refuted allergy keeps a clinical status, but none that says otherwise.
fn refute(state: &Allergy) -> Result<Vec<AllergyEvent>, Error> {
    let standing = standing(state)?;
    match state.status {
        Status::Refuted => return Ok(Vec::new()),
        Status::EnteredInError => return Err(Refusal::EnteredInError.into()),
        Status::Active | Status::Past => {}
    }
    let inactive = json!({"coding": [{"system": CLINICAL, "code": "inactive"}]});
    let resource = verified_as(standing.clone().with("clinicalStatus", inactive), "refuted");
    Ok(vec![AllergyEvent::Refuted { resource }])
}

/// FHIR ait-2: an erroneous entry has no clinical status.
fn mark_entered_in_error(state: &Allergy) -> Result<Vec<AllergyEvent>, Error> {
    let standing = standing(state)?;
    if state.status == Status::EnteredInError {
        return Ok(Vec::new());
    }
    let resource = verified_as(standing.clone().without("clinicalStatus"), "entered-in-error");
    Ok(vec![AllergyEvent::EnteredInError { resource }])
}

fn verified_as(resource: Resource, code: &str) -> Resource {
    resource.with("verificationStatus", json!({"coding": [{"system": VERIFICATION, "code": code}]}))
}

fn standing(state: &Allergy) -> Result<&Resource, Error> {
    state.resource.as_ref().ok_or(Error::Unknown)
}

fn correctable(state: &Allergy) -> Result<(), Error> {
    match state.status {
        Status::EnteredInError => Err(Refusal::EnteredInError.into()),
        Status::Refuted => Err(Error::Refuted),
        Status::Active | Status::Past => Ok(()),
    }
}
