//! The rules of forgetting: one asks, another approves within a bounded time, and a legal hold wins.
//!
//! GDPR Art. 17 is the right, its paragraph 3 the hold: <https://eur-lex.europa.eu/eli/reg/2016/679/oj#art_17>.

use chrono::{DateTime, TimeDelta, Utc};

use super::decide::standing;
use super::{ErasureRequest, Error, LegalHold, Patient, PatientEvent};
use crate::fhir::Resource;
use crate::types::FormError;

/// How many days a request for erasure waits for its approval at most.
pub const REQUEST_DAYS_MAX: i64 = 30;

pub(super) fn place_hold(state: &Patient, by: &str, reason: &str) -> Result<Vec<PatientEvent>, Error> {
    check_reason(reason)?;
    let resource = standing(state)?.clone();
    match &state.hold {
        Some(hold) if hold.reason == reason => Ok(Vec::new()),
        Some(_) => Err(Error::AlreadyHeld),
        None => {
            let hold = LegalHold { by: by.to_owned(), reason: reason.to_owned() };
            Ok(vec![PatientEvent::LegalHoldPlaced { resource, hold }])
        }
    }
}

pub(super) fn release_hold(state: &Patient, by: &str, reason: &str) -> Result<Vec<PatientEvent>, Error> {
    check_reason(reason)?;
    let resource = standing(state)?.clone();
    if state.hold.is_none() {
        return Ok(Vec::new());
    }
    Ok(vec![PatientEvent::LegalHoldReleased { resource, by: by.to_owned(), reason: reason.to_owned() }])
}

/// A hold does not keep anybody from asking: it may be released before the request lapses.
pub(super) fn request(state: &Patient, now: DateTime<Utc>, by: &str, reason: &str) -> Result<Vec<PatientEvent>, Error> {
    check_reason(reason)?;
    let resource = standing(state)?.clone();
    match &state.erasure {
        Some(open) if !has_lapsed(open, now) && (open.by.as_str(), open.reason.as_str()) == (by, reason) => {
            Ok(Vec::new())
        }
        Some(open) if !has_lapsed(open, now) => Err(Error::ErasureAlreadyRequested),
        Some(_) | None => {
            let request = ErasureRequest { by: by.to_owned(), at: now, reason: reason.to_owned() };
            Ok(vec![PatientEvent::ErasureRequested { resource, request }])
        }
    }
}

pub(super) fn withdraw(state: &Patient, by: &str) -> Result<Vec<PatientEvent>, Error> {
    let resource = standing(state)?.clone();
    if state.erasure.is_none() {
        return Ok(Vec::new());
    }
    Ok(vec![PatientEvent::ErasureWithdrawn { resource, by: by.to_owned() }])
}

/// What is left in the event is an id: the event is sealed like any other, and lives a moment longer than its key.
pub(super) fn approve(state: &Patient, now: DateTime<Utc>, by: &str) -> Result<Vec<PatientEvent>, Error> {
    let resource = bare(standing(state)?);
    let request = state.erasure.as_ref().ok_or(Error::ErasureNotRequested)?;
    if has_lapsed(request, now) {
        return Err(Error::ErasureLapsed);
    }
    if request.by == by {
        return Err(Error::ErasureNeedsSecondPerson);
    }
    if state.hold.is_some() {
        return Err(Error::LegalHold);
    }
    let request = request.clone();
    Ok(vec![PatientEvent::Erased { resource, request, approved_by: by.to_owned(), approved_at: now }])
}

fn check_reason(reason: &str) -> Result<(), FormError> {
    if reason.trim().is_empty() { Err(FormError::missing("/reason")) } else { Ok(()) }
}

fn has_lapsed(request: &ErasureRequest, now: DateTime<Utc>) -> bool {
    now > request.at + TimeDelta::days(REQUEST_DAYS_MAX)
}

/// A Patient of whom nothing is known but the id.
fn bare(resource: &Resource) -> Resource {
    let mut bare = resource.clone();
    bare.members_mut().retain(|name, _| matches!(name.as_str(), "resourceType" | "id"));
    bare
}
