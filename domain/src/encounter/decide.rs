//! The rules of an encounter: the order of its steps and what each of them changes.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::form::{check, check_disposition};
use super::state::Step;
use super::{Encounter, EncounterCommand, EncounterEvent, Error};
use crate::common::{Refusal, about_patient, alive, check_reason, json_time, parsed_time, repeated, same_subject};
use crate::fhir::{Coding, FhirDateTime, Resource};
use crate::record::Issued;
use crate::types::{FormError, Note};

pub(super) fn decide(state: &Encounter, issued: &Issued<EncounterCommand>) -> Result<Vec<EncounterEvent>, Error> {
    match &issued.action {
        EncounterCommand::Start { resource } => start(state, issued, resource),
        EncounterCommand::Record { resource } => record(state, issued, resource),
        EncounterCommand::Amend { resource } => amend(state, issued, resource),
        EncounterCommand::Transfer { location, at } => transfer(state, issued, *location, *at),
        EncounterCommand::Finish { at, disposition } => finish(state, issued, *at, disposition),
        EncounterCommand::Cancel { reason } => cancel(state, reason.as_deref()),
        EncounterCommand::MarkEnteredInError => mark_entered_in_error(state),
    }
}

fn start(
    state: &Encounter,
    issued: &Issued<EncounterCommand>,
    resource: &Resource,
) -> Result<Vec<EncounterEvent>, Error> {
    check(resource, issued.now)?;
    if resource.text("status") != Some("in-progress") {
        return Err(Error::StartsInProgress);
    }
    if resource.at("/period/start").is_none() {
        return Err(FormError::missing("/period/start").into());
    }
    Ok(match create(state, issued, resource)? {
        Some(notes) => vec![EncounterEvent::Started { resource: resource.clone(), notes }],
        None => Vec::new(),
    })
}

fn record(
    state: &Encounter,
    issued: &Issued<EncounterCommand>,
    resource: &Resource,
) -> Result<Vec<EncounterEvent>, Error> {
    check(resource, issued.now)?;
    Ok(match create(state, issued, resource)? {
        Some(notes) => vec![EncounterEvent::Recorded { resource: resource.clone(), notes }],
        None => Vec::new(),
    })
}

/// The notes of a new encounter; nothing if it is already on record.
fn create(
    state: &Encounter,
    issued: &Issued<EncounterCommand>,
    resource: &Resource,
) -> Result<Option<Vec<Note>>, Refusal> {
    if repeated(state.filed.as_ref(), state.resource.as_ref(), resource)? {
        return Ok(None);
    }
    let mut notes = Vec::new();
    about_patient(issued, &mut notes)?;
    alive(issued, parsed_time(resource, "/period/start").map(|start| start.earliest), &mut notes)?;
    Ok(Some(notes))
}

fn amend(
    state: &Encounter,
    issued: &Issued<EncounterCommand>,
    resource: &Resource,
) -> Result<Vec<EncounterEvent>, Error> {
    check(resource, issued.now)?;
    let standing = standing(state)?;
    if standing.digest() == resource.digest() {
        return Ok(Vec::new());
    }
    same_subject(standing, resource)?;
    let mut notes = Vec::new();
    issued.judge(may_become(state.step, Step::of(resource)), &mut notes)?;
    Ok(vec![EncounterEvent::Amended { resource: resource.clone(), notes }])
}

/// A correction does not undo a step; what was wrong from the start is entered in error.
fn may_become(from: Step, to: Step) -> Result<(), Error> {
    match (from, to) {
        (Step::EnteredInError, _) => Err(Refusal::EnteredInError.into()),
        (_, Step::EnteredInError) => Ok(()),
        (Step::Cancelled, to) if to != Step::Cancelled => Err(Error::Cancelled),
        (Step::Finished, Step::Cancelled) => Err(Error::AlreadyFinished),
        (from, to) if to < from => Err(Error::StepBack),
        _ => Ok(()),
    }
}

fn transfer(
    state: &Encounter,
    issued: &Issued<EncounterCommand>,
    location: Uuid,
    at: DateTime<Utc>,
) -> Result<Vec<EncounterEvent>, Error> {
    let standing = standing(state)?;
    in_progress(state)?;
    let reference = format!("Location/{location}");
    let here = |item: &&Value| is_open(item) && item.pointer("/location/reference") == Some(&json!(reference));
    if standing.items("location").iter().any(|item| here(&item)) {
        return Ok(Vec::new());
    }
    check_moment(standing, issued.now, at)?;
    let mut locations = closed_locations(standing, Some(at));
    locations.push(json!({
        "location": {"reference": reference},
        "status": "active",
        "period": {"start": json_time(at)}
    }));
    let resource = standing.clone().with("location", Value::Array(locations));
    Ok(vec![EncounterEvent::Transferred { resource, location, at }])
}

fn finish(
    state: &Encounter,
    issued: &Issued<EncounterCommand>,
    at: DateTime<Utc>,
    disposition: &Coding,
) -> Result<Vec<EncounterEvent>, Error> {
    check_disposition(disposition)?;
    let standing = standing(state)?;
    if state.step == Step::Finished && finished_alike(standing, at, disposition) {
        return Ok(Vec::new());
    }
    in_progress(state)?;
    check_moment(standing, issued.now, at)?;
    let mut period = object(standing.get("period"));
    period.insert("end".to_owned(), json_time(at));
    let mut hospitalization = object(standing.get("hospitalization"));
    hospitalization.insert("dischargeDisposition".to_owned(), json!({"coding": [coding_json(disposition)]}));
    let resource = with_locations(standing, closed_locations(standing, Some(at)))
        .with("status", json!("finished"))
        .with("period", Value::Object(period))
        .with("hospitalization", Value::Object(hospitalization));
    Ok(vec![EncounterEvent::Finished { resource, at, disposition: disposition.clone() }])
}

fn cancel(state: &Encounter, reason: Option<&str>) -> Result<Vec<EncounterEvent>, Error> {
    check_reason(reason)?;
    let standing = standing(state)?;
    match state.step {
        Step::Cancelled => return Ok(Vec::new()),
        Step::Finished => return Err(Error::AlreadyFinished),
        Step::EnteredInError => return Err(Refusal::EnteredInError.into()),
        Step::Expected | Step::InProgress => {}
    }
    let resource = with_locations(standing, closed_locations(standing, None)).with("status", json!("cancelled"));
    Ok(vec![EncounterEvent::Cancelled { resource, reason: reason.map(str::to_owned) }])
}

fn mark_entered_in_error(state: &Encounter) -> Result<Vec<EncounterEvent>, Error> {
    let standing = standing(state)?;
    if state.step == Step::EnteredInError {
        return Ok(Vec::new());
    }
    let resource = standing.clone().with("status", json!("entered-in-error"));
    Ok(vec![EncounterEvent::EnteredInError { resource }])
}

fn standing(state: &Encounter) -> Result<&Resource, Error> {
    state.resource.as_ref().ok_or(Error::Unknown)
}

fn in_progress(state: &Encounter) -> Result<(), Error> {
    match state.step {
        Step::InProgress => Ok(()),
        Step::Expected => Err(Error::NotInProgress),
        Step::Finished => Err(Error::AlreadyFinished),
        Step::Cancelled => Err(Error::Cancelled),
        Step::EnteredInError => Err(Refusal::EnteredInError.into()),
    }
}

/// A step comes after the start and after the last move, and has already been taken.
fn check_moment(standing: &Resource, now: DateTime<Utc>, at: DateTime<Utc>) -> Result<(), Error> {
    if FhirDateTime::instant(at).is_after(now) {
        return Err(Error::InFuture);
    }
    let moves = (0..standing.items("location").len()).map(|index| format!("/location/{index}/period/start"));
    let mut steps = std::iter::once("/period/start".to_owned()).chain(moves);
    let before = |pointer: String| parsed_time(standing, &pointer).is_some_and(|step| at < step.earliest);
    if steps.any(before) { Err(Error::BeforeLastStep) } else { Ok(()) }
}

/// A location where the patient is: one that is neither over nor only meant.
fn is_open(location: &Value) -> bool {
    let status = location.get("status").and_then(Value::as_str);
    !matches!(status, Some("completed" | "planned" | "reserved")) && location.pointer("/period/end").is_none()
}

/// The locations once the patient has left them all.
fn closed_locations(standing: &Resource, at: Option<DateTime<Utc>>) -> Vec<Value> {
    let close = |location: &Value| {
        let mut closed = object(Some(location));
        if is_open(location) {
            closed.insert("status".to_owned(), json!("completed"));
            if let Some(at) = at {
                let mut period = object(location.get("period"));
                period.insert("end".to_owned(), json_time(at));
                closed.insert("period".to_owned(), Value::Object(period));
            }
        }
        Value::Object(closed)
    };
    standing.items("location").iter().map(close).collect()
}

fn with_locations(standing: &Resource, locations: Vec<Value>) -> Resource {
    let resource = standing.clone();
    if locations.is_empty() { resource } else { resource.with("location", Value::Array(locations)) }
}

fn finished_alike(standing: &Resource, at: DateTime<Utc>, disposition: &Coding) -> bool {
    let coding = |name: &str| standing.text_at(&format!("/hospitalization/dischargeDisposition/coding/0/{name}"));
    parsed_time(standing, "/period/end").is_some_and(|end| end.earliest == at)
        && coding("system") == Some(&disposition.system)
        && coding("code") == Some(&disposition.code)
}

fn coding_json(coding: &Coding) -> Value {
    let mut json = json!({"system": coding.system, "code": coding.code});
    if let Some(display) = &coding.display {
        json["display"] = json!(display);
    }
    json
}

fn object(value: Option<&Value>) -> Map<String, Value> {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}
