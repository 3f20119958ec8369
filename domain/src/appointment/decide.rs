//! The rules of an appointment: when it may be, and the order of its steps.

use serde_json::{Value, json};

use super::form::check;
use super::slots::{has_length, is_on_grid, is_too_long, practitioners, slots, time_of};
use super::state::Step;
use super::{Appointment, AppointmentCommand, AppointmentEvent, Error};
use crate::common::{Refusal, about_patient, alive, check_reason, repeated, same_subject};
use crate::fhir::Resource;
use crate::record::{Issued, Origin};
use crate::types::{FormError, Note};

type Outcome = Result<Vec<AppointmentEvent>, Error>;

pub(super) fn decide(state: &Appointment, issued: &Issued<AppointmentCommand>) -> Outcome {
    match &issued.action {
        AppointmentCommand::Book { resource } => book(state, issued, resource),
        AppointmentCommand::Record { resource, slot_taken } => record(state, issued, resource, *slot_taken),
        AppointmentCommand::Amend { resource } => amend(state, issued, resource),
        AppointmentCommand::Confirm => confirm(state),
        AppointmentCommand::CheckIn => check_in(state),
        AppointmentCommand::Cancel { reason } => cancel(state, reason.as_deref()),
        AppointmentCommand::MarkNoShow => mark_no_show(state, issued),
        AppointmentCommand::Remind => remind(state, issued),
        AppointmentCommand::MarkEnteredInError => mark_entered_in_error(state),
    }
}

fn book(state: &Appointment, issued: &Issued<AppointmentCommand>, resource: &Resource) -> Outcome {
    check(resource)?;
    if !matches!(resource.text("status"), Some("proposed" | "pending" | "booked")) {
        return Err(Error::NotBookable);
    }
    if time_of(resource).is_none() {
        return Err(FormError::missing("/start").into());
    }
    if practitioners(resource).is_empty() {
        return Err(FormError::new(
            "required-element-missing",
            "/participant",
            "One participant must be a practitioner.",
        )
        .into());
    }
    if repeated(state.filed.as_ref(), state.resource.as_ref(), resource)? {
        return Ok(Vec::new());
    }
    let mut notes = Vec::new();
    admissible(issued, resource, &mut notes)?;
    issued.judge(not_in_past(issued, resource), &mut notes)?;
    Ok(vec![AppointmentEvent::Booked { resource: resource.clone(), notes }])
}

fn record(state: &Appointment, issued: &Issued<AppointmentCommand>, resource: &Resource, slot_taken: bool) -> Outcome {
    check(resource)?;
    if repeated(state.filed.as_ref(), state.resource.as_ref(), resource)? {
        return Ok(Vec::new());
    }
    let mut notes = Vec::new();
    admissible(issued, resource, &mut notes)?;
    issued.judge(if slot_taken { Err(Error::SlotTaken) } else { Ok(()) }, &mut notes)?;
    Ok(vec![AppointmentEvent::Recorded { resource: resource.clone(), notes }])
}

/// Whether there may be such an appointment of this patient.
fn admissible(issued: &Issued<AppointmentCommand>, resource: &Resource, notes: &mut Vec<Note>) -> Result<(), Error> {
    about_patient(issued, notes)?;
    alive(issued, time_of(resource).map(|(start, _)| start), notes)?;
    judge_time(issued, resource, notes)
}

fn judge_time(issued: &Issued<AppointmentCommand>, resource: &Resource, notes: &mut Vec<Note>) -> Result<(), Error> {
    let Some(time) = time_of(resource) else { return Ok(()) };
    issued.judge(if is_on_grid(time) { Ok(()) } else { Err(Error::OffGrid) }, notes)?;
    issued.judge(if has_length(time) { Ok(()) } else { Err(Error::NoLength) }, notes)?;
    issued.judge(if is_too_long(time) { Err(Error::TooLong) } else { Ok(()) }, notes)
}

fn not_in_past(issued: &Issued<AppointmentCommand>, resource: &Resource) -> Result<(), Error> {
    match time_of(resource) {
        Some((start, _)) if start < issued.now => Err(Error::InPast),
        _ => Ok(()),
    }
}

/// A moved appointment is held to the rules of a new one. History that moves takes no claims, since it may overlap with
/// what was booked here.
fn amend(state: &Appointment, issued: &Issued<AppointmentCommand>, resource: &Resource) -> Outcome {
    check(resource)?;
    let standing = standing(state)?;
    if standing.digest() == resource.digest() {
        return Ok(Vec::new());
    }
    same_subject(standing, resource)?;
    let mut notes = Vec::new();
    issued.judge(may_become(state.step, Step::of(resource)), &mut notes)?;
    let new_slots = slots(resource);
    if time_of(resource) != time_of(standing) {
        judge_time(issued, resource, &mut notes)?;
        if issued.origin == Origin::Decision && !new_slots.is_empty() {
            not_in_past(issued, resource)?;
        }
    }
    if issued.origin == Origin::History && !new_slots.is_empty() && new_slots != slots(standing) {
        notes.push(Note::of(&Error::SlotUnclaimed));
    }
    Ok(vec![AppointmentEvent::Amended { resource: resource.clone(), notes }])
}

/// What is over stays over, unless it should not have been recorded at all.
fn may_become(from: Step, to: Step) -> Result<(), Error> {
    match (from, to) {
        (Step::EnteredInError, _) => Err(Refusal::EnteredInError.into()),
        (_, Step::EnteredInError) => Ok(()),
        (Step::Fulfilled | Step::Cancelled | Step::NoShow, to) if to != from => Err(Error::Over),
        (Step::CheckedIn, Step::Proposed | Step::Booked | Step::NoShow) => Err(Error::AlreadyCheckedIn),
        _ => Ok(()),
    }
}

/// Everyone who was asked has agreed; who declined stays declined.
fn confirm(state: &Appointment) -> Outcome {
    let standing = standing(state)?;
    match state.step {
        Step::Booked => return Ok(Vec::new()),
        Step::CheckedIn => return Err(Error::AlreadyCheckedIn),
        Step::Proposed => {}
        step => return Err(ended(step)),
    }
    if time_of(standing).is_none() {
        return Err(Error::NotScheduled);
    }
    let accept = |participant: &Value| {
        let mut participant = participant.clone();
        if matches!(participant.get("status").and_then(Value::as_str), Some("needs-action" | "tentative")) {
            participant["status"] = json!("accepted");
        }
        participant
    };
    let participants: Vec<Value> = standing.items("participant").iter().map(accept).collect();
    let resource = with_status(standing, "booked").with("participant", Value::Array(participants));
    Ok(vec![AppointmentEvent::Confirmed { resource }])
}

fn check_in(state: &Appointment) -> Outcome {
    let standing = standing(state)?;
    match state.step {
        Step::CheckedIn => Ok(Vec::new()),
        Step::Proposed => Err(Error::NotConfirmed),
        Step::Booked => Ok(vec![AppointmentEvent::CheckedIn { resource: with_status(standing, "checked-in") }]),
        step => Err(ended(step)),
    }
}

/// Even who is checked in may leave again before being seen.
fn cancel(state: &Appointment, reason: Option<&str>) -> Outcome {
    check_reason(reason)?;
    let standing = standing(state)?;
    match state.step {
        Step::Cancelled => return Ok(Vec::new()),
        Step::Proposed | Step::Booked | Step::CheckedIn => {}
        step => return Err(ended(step)),
    }
    let resource = with_status(standing, "cancelled");
    let resource = match reason {
        Some(text) => resource.with("cancelationReason", json!({"text": text})),
        None => resource,
    };
    Ok(vec![AppointmentEvent::Cancelled { resource, reason: reason.map(str::to_owned) }])
}

fn mark_no_show(state: &Appointment, issued: &Issued<AppointmentCommand>) -> Outcome {
    let standing = standing(state)?;
    match state.step {
        Step::NoShow => return Ok(Vec::new()),
        Step::CheckedIn => return Err(Error::AlreadyCheckedIn),
        Step::Proposed | Step::Booked => {}
        step => return Err(ended(step)),
    }
    let (start, _) = time_of(standing).ok_or(Error::NotScheduled)?;
    if issued.now < start {
        return Err(Error::NotYetDue);
    }
    Ok(vec![AppointmentEvent::NoShow { resource: with_status(standing, "noshow") }])
}

/// Once for each time that the appointment is moved to.
fn remind(state: &Appointment, issued: &Issued<AppointmentCommand>) -> Outcome {
    let standing = standing(state)?;
    let (start, _) = time_of(standing).ok_or(Error::NotScheduled)?;
    match state.step {
        _ if state.reminded_of == Some(start) => return Ok(Vec::new()),
        Step::Booked => {}
        Step::CheckedIn => return Err(Error::AlreadyCheckedIn),
        Step::Proposed => return Err(Error::NotConfirmed),
        step => return Err(ended(step)),
    }
    if issued.now >= start {
        return Err(Error::Begun);
    }
    Ok(vec![AppointmentEvent::ReminderDue { resource: standing.clone() }])
}

/// FHIR app-4: no reason for a cancellation without the status of one.
fn mark_entered_in_error(state: &Appointment) -> Outcome {
    let standing = standing(state)?;
    if state.step == Step::EnteredInError {
        return Ok(Vec::new());
    }
    let resource = with_status(standing, "entered-in-error").without("cancelationReason");
    Ok(vec![AppointmentEvent::EnteredInError { resource }])
}

fn standing(state: &Appointment) -> Result<&Resource, Error> {
    state.resource.as_ref().ok_or(Error::Unknown)
}

fn with_status(standing: &Resource, status: &str) -> Resource {
    standing.clone().with("status", json!(status))
}

fn ended(step: Step) -> Error {
    if step == Step::EnteredInError { Refusal::EnteredInError.into() } else { Error::Over }
}
