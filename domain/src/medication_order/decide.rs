//! The rules of a medication order: what must not be prescribed, and the order of the steps.

use serde_json::json;

use super::form::{check, check_reason};
use super::medication::{Medication, ordered};
use super::state::Step;
use super::{Error, MedicationOrder, MedicationOrderCommand, MedicationOrderEvent};
use crate::allergy::ActiveAllergy;
use crate::common::{Refusal, about_patient, alive, parsed_time, repeated, same_subject};
use crate::fhir::{Resource, Stance, stance};
use crate::record::Issued;
use crate::types::Note;

pub(super) fn decide(
    state: &MedicationOrder,
    issued: &Issued<MedicationOrderCommand>,
) -> Result<Vec<MedicationOrderEvent>, Error> {
    match &issued.action {
        MedicationOrderCommand::Prescribe { resource, override_reason, active_allergies } => {
            prescribe(state, issued, resource, override_reason.as_deref(), active_allergies)
        }
        MedicationOrderCommand::Record { resource, active_allergies } => {
            record(state, issued, resource, active_allergies)
        }
        MedicationOrderCommand::Amend { resource } => amend(state, issued, resource),
        MedicationOrderCommand::Hold { reason } => hold(state, reason),
        MedicationOrderCommand::Resume => resume(state, issued),
        MedicationOrderCommand::Discontinue { reason } => discontinue(state, reason),
        MedicationOrderCommand::Complete => complete(state),
        MedicationOrderCommand::MarkEnteredInError => mark_entered_in_error(state),
    }
}

fn prescribe(
    state: &MedicationOrder,
    issued: &Issued<MedicationOrderCommand>,
    resource: &Resource,
    override_reason: Option<&str>,
    allergies: &[ActiveAllergy],
) -> Result<Vec<MedicationOrderEvent>, Error> {
    check(resource, issued.now)?;
    if Step::of(resource) != Step::Active {
        return Err(Error::PrescribedActive);
    }
    let Some(mut notes) = begin(state, issued, resource)? else { return Ok(Vec::new()) };
    let given = override_reason.filter(|reason| !reason.trim().is_empty());
    given.map_or(Ok(()), check_reason)?;
    let override_reason = match (tolerated(resource, allergies), given) {
        (Err(_), Some(reason)) => Some(reason.to_owned()),
        (verdict, _) => {
            issued.judge(verdict, &mut notes)?;
            None
        }
    };
    Ok(vec![MedicationOrderEvent::Prescribed { resource: resource.clone(), override_reason, notes }])
}

fn record(
    state: &MedicationOrder,
    issued: &Issued<MedicationOrderCommand>,
    resource: &Resource,
    allergies: &[ActiveAllergy],
) -> Result<Vec<MedicationOrderEvent>, Error> {
    check(resource, issued.now)?;
    let Some(mut notes) = begin(state, issued, resource)? else { return Ok(Vec::new()) };
    issued.judge(tolerated(resource, allergies), &mut notes)?;
    Ok(vec![MedicationOrderEvent::Recorded { resource: resource.clone(), notes }])
}

/// The notes of a new order; nothing if it is already on record.
fn begin(
    state: &MedicationOrder,
    issued: &Issued<MedicationOrderCommand>,
    resource: &Resource,
) -> Result<Option<Vec<Note>>, Refusal> {
    if repeated(state.filed.as_ref(), state.resource.as_ref(), resource)? {
        return Ok(None);
    }
    let mut notes = Vec::new();
    about_patient(issued, &mut notes)?;
    alive(issued, parsed_time(resource, "/authoredOn").map(|authored| authored.earliest), &mut notes)?;
    Ok(Some(notes))
}

/// No active allergy speaks against the medication. An order not to give it needs no such check; nor does one that was
/// an error. What can't be compared with each of the patient's allergies is not taken for harmless.
fn tolerated(resource: &Resource, allergies: &[ActiveAllergy]) -> Result<(), Error> {
    let forbids = matches!(stance(resource), Stance::Denied(_));
    if allergies.is_empty() || forbids || Step::of(resource) == Step::EnteredInError {
        return Ok(());
    }
    let medication = Medication::of(resource);
    let met: Vec<_> = allergies.iter().filter(|allergy| medication.is_met_by(allergy)).collect();
    if !met.is_empty() {
        let confirmed = met.iter().any(|allergy| allergy.confirmed);
        return Err(if confirmed { Error::ActiveAllergy } else { Error::UnconfirmedAllergy });
    }
    let comparable = allergies.iter().all(|allergy| medication.is_comparable_with(allergy));
    if comparable { Ok(()) } else { Err(Error::NotCheckable) }
}

fn amend(
    state: &MedicationOrder,
    issued: &Issued<MedicationOrderCommand>,
    resource: &Resource,
) -> Result<Vec<MedicationOrderEvent>, Error> {
    check(resource, issued.now)?;
    let standing = standing(state)?;
    if standing.digest() == resource.digest() {
        return Ok(Vec::new());
    }
    same_subject(standing, resource)?;
    let mut notes = Vec::new();
    issued.judge(may_become(state.step, Step::of(resource)), &mut notes)?;
    issued.judge(same_medication(standing, resource), &mut notes)?;
    Ok(vec![MedicationOrderEvent::Amended { resource: resource.clone(), notes }])
}

/// A correction does not bring back an order that has ended.
fn may_become(from: Step, to: Step) -> Result<(), Error> {
    match from {
        Step::EnteredInError => Err(Refusal::EnteredInError.into()),
        Step::Stopped if !matches!(to, Step::Stopped | Step::EnteredInError) => Err(Error::Stopped),
        Step::Completed if !matches!(to, Step::Completed | Step::EnteredInError) => Err(Error::Completed),
        _ => Ok(()),
    }
}

/// An order that changed its medication would get around the check against allergies.
fn same_medication(standing: &Resource, resource: &Resource) -> Result<(), Error> {
    if ordered(standing) == ordered(resource) { Ok(()) } else { Err(Error::MedicationChanged) }
}

fn hold(state: &MedicationOrder, reason: &str) -> Result<Vec<MedicationOrderEvent>, Error> {
    check_reason(reason)?;
    let standing = standing(state)?;
    if state.step == Step::OnHold && because_of(standing, reason) {
        return Ok(Vec::new());
    }
    in_use(state)?;
    let resource = with_reason(standing, reason).with("status", json!("on-hold"));
    Ok(vec![MedicationOrderEvent::Held { resource, reason: reason.to_owned() }])
}

/// Nothing is begun again for the dead.
fn resume(
    state: &MedicationOrder,
    issued: &Issued<MedicationOrderCommand>,
) -> Result<Vec<MedicationOrderEvent>, Error> {
    let standing = standing(state)?;
    match state.step {
        Step::Active => return Ok(Vec::new()),
        Step::OnHold => {}
        _ => in_use(state)?,
    }
    alive(issued, Some(issued.now), &mut Vec::new())?;
    let resource = standing.clone().without("statusReason").with("status", json!("active"));
    Ok(vec![MedicationOrderEvent::Resumed { resource }])
}

fn discontinue(state: &MedicationOrder, reason: &str) -> Result<Vec<MedicationOrderEvent>, Error> {
    check_reason(reason)?;
    let standing = standing(state)?;
    match state.step {
        Step::Stopped if because_of(standing, reason) => return Ok(Vec::new()),
        Step::OnHold => {}
        _ => in_use(state)?,
    }
    let resource = with_reason(standing, reason).with("status", json!("stopped"));
    Ok(vec![MedicationOrderEvent::Discontinued { resource, reason: reason.to_owned() }])
}

fn complete(state: &MedicationOrder) -> Result<Vec<MedicationOrderEvent>, Error> {
    let standing = standing(state)?;
    if state.step == Step::Completed {
        return Ok(Vec::new());
    }
    in_use(state)?;
    let resource = standing.clone().with("status", json!("completed"));
    Ok(vec![MedicationOrderEvent::Completed { resource }])
}

fn mark_entered_in_error(state: &MedicationOrder) -> Result<Vec<MedicationOrderEvent>, Error> {
    let standing = standing(state)?;
    if state.step == Step::EnteredInError {
        return Ok(Vec::new());
    }
    let resource = standing.clone().with("status", json!("entered-in-error"));
    Ok(vec![MedicationOrderEvent::EnteredInError { resource }])
}

fn standing(state: &MedicationOrder) -> Result<&Resource, Error> {
    state.resource.as_ref().ok_or(Error::Unknown)
}

fn in_use(state: &MedicationOrder) -> Result<(), Error> {
    match state.step {
        Step::Active => Ok(()),
        Step::Open => Err(Error::NotActive),
        Step::OnHold => Err(Error::OnHold),
        Step::Stopped => Err(Error::Stopped),
        Step::Completed => Err(Error::Completed),
        Step::EnteredInError => Err(Refusal::EnteredInError.into()),
    }
}

fn with_reason(standing: &Resource, reason: &str) -> Resource {
    standing.clone().with("statusReason", json!({"text": reason}))
}

fn because_of(standing: &Resource, reason: &str) -> bool {
    standing.text_at("/statusReason/text") == Some(reason)
}
