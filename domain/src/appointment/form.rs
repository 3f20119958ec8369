//! The rules of form and sense of an appointment, FHIR's app-1 to app-4 among them.

use serde_json::Value;

use super::slots::time_of;
use crate::common::{check_shape, check_status, check_value_set, parsed_time};
use crate::fhir::{Precision, Resource, patient_of};
use crate::types::FormError;

const STATUSES: &[&str] = &[
    "proposed",
    "pending",
    "booked",
    "arrived",
    "fulfilled",
    "cancelled",
    "noshow",
    "entered-in-error",
    "checked-in",
    "waitlist",
];
const PARTICIPATION: &[&str] = &["accepted", "declined", "tentative", "needs-action"];
const REQUIRED: &[&str] = &["required", "optional", "information-only"];
const ELEMENTS: &[&str] = &[
    "identifier[]",
    "status",
    "cancelationReason",
    "serviceCategory[]",
    "serviceType[]",
    "specialty[]",
    "appointmentType",
    "reasonCode[]",
    "reasonReference[]",
    "priority",
    "description",
    "supportingInformation[]",
    "start",
    "end",
    "minutesDuration",
    "slot[]",
    "created",
    "comment",
    "patientInstruction",
    "basedOn[]",
    "participant[]",
    "requestedPeriod[]",
];

pub(super) fn check(resource: &Resource) -> Result<(), FormError> {
    check_shape(resource, "Appointment", ELEMENTS)?;
    check_status(resource, "status", STATUSES)?;
    check_times(resource)?;
    let participants = resource.items("participant");
    participants.iter().enumerate().try_for_each(|(index, participant)| check_participant(index, participant))?;
    if patient_of(resource).is_none() {
        return Err(FormError::new("required-element-missing", "/participant", "One participant must be a patient."));
    }
    let off = matches!(resource.text("status"), Some("cancelled" | "noshow"));
    if resource.get("cancelationReason").is_some() && !off {
        return Err(FormError::new(
            "reason-without-cancellation",
            "/cancelationReason",
            "Only what was cancelled or missed has a reason for it.",
        ));
    }
    Ok(())
}

fn check_times(resource: &Resource) -> Result<(), FormError> {
    for name in ["start", "end"] {
        let instant = || parsed_time(resource, &format!("/{name}")).is_some_and(|t| t.precision == Precision::Instant);
        if resource.get(name).is_some() && !instant() {
            return Err(FormError::new("bad-date", format!("/{name}"), "An appointment's time is a FHIR instant."));
        }
    }
    let timeless = matches!(resource.text("status"), Some("proposed" | "cancelled" | "waitlist"));
    match (resource.get("start"), resource.get("end")) {
        (Some(_), None) => Err(FormError::missing("/end")),
        (None, Some(_)) => Err(FormError::missing("/start")),
        (None, None) if !timeless => Err(FormError::missing("/start")),
        _ => match time_of(resource) {
            Some((start, end)) if end < start => {
                Err(FormError::new("end-before-start", "/end", "An appointment can't end before it starts."))
            }
            _ => Ok(()),
        },
    }
}

fn check_participant(index: usize, participant: &Value) -> Result<(), FormError> {
    let pointer = |name: &str| format!("/participant/{index}/{name}");
    if participant.get("actor").is_none() && participant.get("type").is_none() {
        return Err(FormError::missing(pointer("actor")));
    }
    let status = participant.get("status").ok_or_else(|| FormError::missing(pointer("status")))?;
    check_value_set(status, &pointer("status"), PARTICIPATION)?;
    match participant.get("required") {
        Some(required) => check_value_set(required, &pointer("required"), REQUIRED),
        None => Ok(()),
    }
}
