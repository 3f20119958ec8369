//! The rules of a clinical record.

use super::retraction::{retracted, status_element};
use super::{ClinicalRecord, ClinicalRecordCommand, ClinicalRecordEvent, Error};
use crate::common::{Refusal, about_patient, check_tags, repeated, same_subject};
use crate::fhir::{Resource, check_form, reason_not_kept};
use crate::filing::aggregate_for;
use crate::record::Issued;
use crate::types::FormError;

pub(super) fn decide(
    state: &ClinicalRecord,
    issued: &Issued<ClinicalRecordCommand>,
) -> Result<Vec<ClinicalRecordEvent>, Error> {
    match &issued.action {
        ClinicalRecordCommand::File { resource } => file(state, issued, resource),
        ClinicalRecordCommand::Amend { resource } => amend(state, issued, resource),
        ClinicalRecordCommand::Retract => retract(state),
    }
}

fn file(
    state: &ClinicalRecord,
    issued: &Issued<ClinicalRecordCommand>,
    resource: &Resource,
) -> Result<Vec<ClinicalRecordEvent>, Error> {
    check(resource)?;
    if repeated(state.filed.as_ref(), state.resource.as_ref(), resource)? {
        return Ok(Vec::new());
    }
    let mut notes = Vec::new();
    about_patient(issued, &mut notes)?;
    Ok(vec![ClinicalRecordEvent::Filed { resource: resource.clone(), notes }])
}

fn amend(
    state: &ClinicalRecord,
    issued: &Issued<ClinicalRecordCommand>,
    resource: &Resource,
) -> Result<Vec<ClinicalRecordEvent>, Error> {
    check(resource)?;
    let standing = standing(state)?;
    if standing.digest() == resource.digest() {
        return Ok(Vec::new());
    }
    if standing.resource_type() != resource.resource_type() {
        return Err(Error::TypeChanged);
    }
    same_subject(standing, resource)?;
    let mut notes = Vec::new();
    let rule = if state.retracted { Err(Refusal::EnteredInError) } else { Ok(()) };
    issued.judge(rule, &mut notes)?;
    Ok(vec![ClinicalRecordEvent::Amended { resource: resource.clone(), notes }])
}

fn retract(state: &ClinicalRecord) -> Result<Vec<ClinicalRecordEvent>, Error> {
    let standing = standing(state)?;
    if state.retracted {
        return Ok(Vec::new());
    }
    Ok(vec![ClinicalRecordEvent::Retracted { resource: retracted(standing) }])
}

fn standing(state: &ClinicalRecord) -> Result<&Resource, Error> {
    state.resource.as_ref().ok_or(Error::Unknown)
}

/// The rules of form: those of any resource, in a type that no other aggregate keeps.
fn check(resource: &Resource) -> Result<(), FormError> {
    if let Some(reason) = reason_not_kept(resource.resource_type()) {
        return Err(FormError::new("unsupported-type", "/resourceType", reason));
    }
    if aggregate_for(resource.resource_type()) != Some("ClinicalRecord") {
        return Err(FormError::new("wrong-resource-type", "/resourceType", "This resource type is not filed here."));
    }
    check_form(resource)?;
    check_retractable(resource)
}

/// What a retraction would change has the type that it should have.
fn check_retractable(resource: &Resource) -> Result<(), FormError> {
    let status = status_element(resource.resource_type());
    match status.and_then(|element| Some((element, resource.get(element)?))) {
        Some((element, value)) if !value.is_string() => return Err(FormError::wrong_type(format!("/{element}"))),
        _ => {}
    }
    check_tags(resource)
}
