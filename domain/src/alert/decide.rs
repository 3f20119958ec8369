//! The rules of an alert: what an assessment means for what stands.

use serde_json::Value;

use super::{Alert, AlertCommand, AlertEvent, Error, RISK_SYSTEM, risk_of};
use crate::common::{about_patient, check_code, check_period, check_shape, check_status, check_subject};
use crate::early_warning::Risk;
use crate::fhir::Resource;
use crate::record::Issued;
use crate::types::FormError;

const STATUSES: &[&str] = &["active", "inactive"];
const ELEMENTS: &[&str] = &["identifier[]", "status", "category[]", "code", "subject", "period", "encounter", "author"];

pub(super) fn decide(state: &Alert, issued: &Issued<AlertCommand>) -> Result<Vec<AlertEvent>, Error> {
    match &issued.action {
        AlertCommand::Assess { resource } => assess(state, issued, resource),
        AlertCommand::Retract => Err(Error::Permanent),
    }
}

/// An assessment that finds the alert as it stands changes nothing, whatever the points in detail.
fn assess(state: &Alert, issued: &Issued<AlertCommand>, resource: &Resource) -> Result<Vec<AlertEvent>, Error> {
    check(resource)?;
    same_stay(state, resource)?;
    let mut notes = Vec::new();
    about_patient(issued, &mut notes)?;
    let began = state.resource.as_ref().and_then(|standing| standing.text_at("/period/start"));
    let resource = resource.clone();
    Ok(match (state.risk(), risk_of(&resource)) {
        (before, now) if before == now => Vec::new(),
        (None, Some(_)) => vec![AlertEvent::Raised { resource, notes }],
        (Some(_), None) => vec![AlertEvent::Cleared { resource: since(resource, began) }],
        (before, now) if now > before => vec![AlertEvent::Escalated { resource: since(resource, began) }],
        _ => vec![AlertEvent::Eased { resource: since(resource, began) }],
    })
}

/// The same, begun when the alert was raised.
fn since(resource: Resource, began: Option<&str>) -> Resource {
    let mut period = resource.get("period").cloned().unwrap_or_default();
    if let (Some(period), Some(began)) = (period.as_object_mut(), began) {
        period.insert("start".to_owned(), Value::from(began));
    }
    resource.with("period", period)
}

fn same_stay(state: &Alert, resource: &Resource) -> Result<(), Error> {
    let stay = |resource: &Resource| resource.text_at("/encounter/reference").map(str::to_owned);
    match &state.resource {
        Some(standing) if stay(standing) != stay(resource) => Err(Error::OtherEncounter),
        _ => Ok(()),
    }
}

/// A Flag about a stay, as urgent as its code says; what is over has an end.
fn check(resource: &Resource) -> Result<(), FormError> {
    check_shape(resource, "Flag", ELEMENTS)?;
    check_status(resource, "status", STATUSES)?;
    check_subject(resource)?;
    check_code(resource, "code", RISK_SYSTEM, &Risk::ALL.map(Risk::as_str))?;
    check_period(resource, "/period")?;
    for pointer in ["/code", "/encounter/reference", "/period/start"] {
        if resource.at(pointer).is_none() {
            return Err(FormError::missing(pointer));
        }
    }
    if resource.text("status") == Some("active") && risk_of(resource).is_none() {
        return Err(FormError::unknown_code("/code"));
    }
    Ok(())
}
