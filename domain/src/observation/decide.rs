//! The rules of an observation.

use serde_json::json;

use super::form::{check, check_clock, check_comparable};
use super::{Error, Observation, ObservationCommand, ObservationEvent};
use crate::common::{Refusal, about_patient, repeated, same_subject};
use crate::fhir::{Resource, clinical_time};
use crate::record::{Issued, Origin};
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
    let mut notes = sound(issued, resource)?;
    if repeated(state.filed.as_ref(), state.resource.as_ref(), resource)? {
        return Ok(Vec::new());
    }
    about_patient(issued, &mut notes)?;
    observed_alive(issued, resource, &mut notes)?;
    Ok(vec![ObservationEvent::Recorded { resource: resource.clone(), notes }])
}

fn amend(
    state: &Observation,
    issued: &Issued<ObservationCommand>,
    resource: &Resource,
) -> Result<Vec<ObservationEvent>, Error> {
    let mut notes = sound(issued, resource)?;
    let standing = standing(state)?;
    if standing.digest() == resource.digest() {
        return Ok(Vec::new());
    }
    same_subject(standing, resource)?;
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

/// Form and sense. History is taken from clocks that are ahead and in units of the house: it is noted, shown as it was stated,
/// and no score is made of it.
fn sound(issued: &Issued<ObservationCommand>, resource: &Resource) -> Result<Vec<Note>, Error> {
    check(resource, issued.now)?;
    let mut notes = Vec::new();
    issued.judge(check_clock(resource, issued.now), &mut notes)?;
    issued.judge(check_comparable(resource), &mut notes)?;
    Ok(notes)
}

/// Nothing is observed on the living after their death. What was observed before may still come in. What states no time is
/// observed now if it is decided now; of history nobody knows.
fn observed_alive(
    issued: &Issued<ObservationCommand>,
    resource: &Resource,
    notes: &mut Vec<Note>,
) -> Result<(), Refusal> {
    let now = Some(issued.now).filter(|_| issued.origin == Origin::Decision);
    let observed_at = clinical_time(resource).map(|when| when.earliest()).or(now);
    let dead = observed_at.is_some_and(|time| issued.patient.died_before(time));
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
