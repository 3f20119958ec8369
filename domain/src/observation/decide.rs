//! The rules of an observation.

use serde_json::json;

use super::form::check;
use super::{Error, Observation, ObservationCommand, ObservationEvent};
use crate::common::{Refusal, about_patient, repeated, same_subject};
use crate::fhir::{Resource, clinical_time};
use crate::record::Issued;
use crate::types::Note;

const ENTERED_IN_ERROR: &str = "entered-in-error";

pub(super) fn decide(state: &Observation, issued: &Issued<ObservationCommand>) -> Result<Vec<ObservationEvent>, Error> {
    match &issued.action {
        ObservationCommand::Record { resource } => record(state, issued, resource),
        ObservationCommand::Amend { resource } => amend(state, issued, resource),
        ObservationCommand::MarkEnteredInError => mark_entered_in_error(state),
    }
}

fn record(
    state: &Observation,
    issued: &Issued<ObservationCommand>,
    resource: &Resource,
) -> Result<Vec<ObservationEvent>, Error> {
    check(resource, issued.now)?;
    if repeated(state.filed.as_ref(), state.resource.as_ref(), resource)? {
        return Ok(Vec::new());
    }
    let mut notes = Vec::new();
    about_patient(issued, &mut notes)?;
    observed_alive(issued, resource, &mut notes)?;
    Ok(vec![ObservationEvent::Recorded { resource: resource.clone(), notes }])
}

fn amend(
    state: &Observation,
    issued: &Issued<ObservationCommand>,
    resource: &Resource,
) -> Result<Vec<ObservationEvent>, Error> {
    check(resource, issued.now)?;
    let standing = standing(state)?;
    if standing.digest() == resource.digest() {
        return Ok(Vec::new());
    }
    same_subject(standing, resource)?;
    let mut notes = Vec::new();
    issued.judge(may_become(state.status(), resource.text("status")), &mut notes)?;
    observed_alive(issued, resource, &mut notes)?;
    Ok(vec![ObservationEvent::Amended { resource: resource.clone(), notes }])
}

fn mark_entered_in_error(state: &Observation) -> Result<Vec<ObservationEvent>, Error> {
    let standing = standing(state)?;
    if state.status() == Some(ENTERED_IN_ERROR) {
        return Ok(Vec::new());
    }
    let resource = standing.clone().with("status", json!(ENTERED_IN_ERROR));
    Ok(vec![ObservationEvent::EnteredInError { resource }])
}

fn standing(state: &Observation) -> Result<&Resource, Error> {
    state.resource.as_ref().ok_or(Error::Unknown)
}

/// Nothing is observed on the living after their death. What was observed before may still come in.
fn observed_alive(
    issued: &Issued<ObservationCommand>,
    resource: &Resource,
    notes: &mut Vec<Note>,
) -> Result<(), Refusal> {
    let observed_at = clinical_time(resource).map_or(issued.now, |time| time.earliest);
    let dead = issued.patient.died_before(observed_at);
    issued.judge(if dead { Err(Refusal::PatientDeceased) } else { Ok(()) }, notes)
}

/// Whoever reads a result that was final must see that it was changed since
/// (<https://hl7.org/fhir/R4/valueset-observation-status.html>).
fn may_become(from: Option<&str>, to: Option<&str>) -> Result<(), Error> {
    match (from, to) {
        (Some(ENTERED_IN_ERROR), _) => Err(Refusal::EnteredInError.into()),
        (Some("final" | "amended" | "corrected"), Some("registered" | "preliminary" | "final")) => {
            Err(Error::NotMarkedAmended)
        }
        _ => Ok(()),
    }
}
