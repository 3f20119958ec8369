//! The rules of an emergency access.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{EmergencyAccess, EmergencyAccessCommand, EmergencyAccessEvent, Error};
use crate::common::{about_patient, json_time, parsed_time, repeated};
use crate::fhir::{Resource, check_form, check_text};
use crate::record::Issued;
use crate::types::FormError;

/// How long glass stays broken at most, in minutes.
pub const MINUTES_MAX: i64 = 60;
/// The system of identifiers that name accounts (the `sub` of a token).
pub const ACCOUNT_SYSTEM: &str = "urn:nexushealth:account";

pub(super) fn decide(
    state: &EmergencyAccess,
    issued: &Issued<EmergencyAccessCommand>,
) -> Result<Vec<EmergencyAccessEvent>, Error> {
    match &issued.action {
        EmergencyAccessCommand::Open { resource } => open(state, issued, resource),
        EmergencyAccessCommand::Review { finding, reviewer } => review(state, finding, reviewer, issued.now),
        EmergencyAccessCommand::Retract => Err(Error::Permanent),
    }
}

fn open(
    state: &EmergencyAccess,
    issued: &Issued<EmergencyAccessCommand>,
    resource: &Resource,
) -> Result<Vec<EmergencyAccessEvent>, Error> {
    check(resource)?;
    if repeated(state.filed.as_ref(), state.resource.as_ref(), resource)? {
        return Ok(Vec::new());
    }
    let mut notes = Vec::new();
    about_patient(issued, &mut notes)?;
    Ok(vec![EmergencyAccessEvent::Opened { resource: resource.clone(), notes }])
}

fn review(
    state: &EmergencyAccess,
    finding: &str,
    reviewer: &str,
    now: DateTime<Utc>,
) -> Result<Vec<EmergencyAccessEvent>, Error> {
    check_text("finding", finding, "/finding")?;
    let standing = state.resource.as_ref().ok_or(Error::Unknown)?;
    let same = standing.text_at("/note/0/text") == Some(finding);
    if state.is_reviewed() {
        return if same { Ok(Vec::new()) } else { Err(Error::AlreadyReviewed) };
    }
    if standing.text_at("/requester/identifier/value") == Some(reviewer) {
        return Err(Error::OwnCase);
    }
    let account = json!({"identifier": {"system": ACCOUNT_SYSTEM, "value": reviewer}});
    let resource = standing
        .clone()
        .with("status", json!("completed"))
        .with("owner", account)
        .with("lastModified", json_time(now))
        .with("note", json!([{"time": json_time(now), "text": finding}]));
    Ok(vec![EmergencyAccessEvent::Reviewed { resource }])
}

/// A requested Task for a patient, of somebody known by account, with a reason, that ends within the hour.
fn check(resource: &Resource) -> Result<(), Error> {
    if resource.resource_type() != "Task" {
        return Err(FormError::new("wrong-resource-type", "/resourceType", "A Task is expected here.").into());
    }
    check_form(resource)?;
    if resource.text("status") != Some("requested") {
        return Err(FormError::unknown_code("/status").into());
    }
    for pointer in ["/for/reference", "/requester/reference", "/requester/identifier/value", "/reasonCode/text"] {
        if resource.at(pointer).and_then(Value::as_str).is_none() {
            return Err(FormError::missing(pointer).into());
        }
    }
    check_text("reason", resource.text_at("/reasonCode/text").unwrap_or_default(), "/reason")?;
    check_time(resource)
}

fn check_time(resource: &Resource) -> Result<(), Error> {
    let time = |end: &str| {
        let pointer = format!("/restriction/period/{end}");
        parsed_time(resource, &pointer).ok_or_else(|| FormError::missing(pointer))
    };
    let lasts = time("end")?.earliest - time("start")?.earliest;
    if lasts > TimeDelta::zero() && lasts <= TimeDelta::minutes(MINUTES_MAX) {
        return Ok(());
    }
    Err(FormError::new("out-of-range", "/minutes", "A record is opened for 1 to 60 minutes.").into())
}
