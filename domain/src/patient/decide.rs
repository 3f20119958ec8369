//! The rules of a patient's record.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::state::{death, is_dead, is_medical_record_number, survivor};
use super::{Error, Patient, PatientCommand, PatientEvent, erasure};
use crate::common::{
    Refusal, check_not_after, check_shape, check_status, check_value_set, json_time, parsed_time, repeated,
};
use crate::fhir::{FhirDateTime, Precision, Resource, Understanding, understood};
use crate::record::Issued;
use crate::types::{FormError, Note};

const GENDERS: &[&str] = &["male", "female", "other", "unknown"];
const LINK_TYPES: &[&str] = &["replaced-by", "replaces", "refer", "seealso"];
/// Nobody with an electronic record was born before.
const BIRTH_EARLIEST: &str = "1850";
/// A birth date is a day somewhere on earth: its first moment may come this long before the day begins in UTC.
const DAY_SLACK_HOURS: i64 = 14;
const ELEMENTS: &[&str] = &[
    "identifier[]",
    "active",
    "name[]",
    "telecom[]",
    "gender",
    "birthDate",
    "deceasedBoolean",
    "deceasedDateTime",
    "address[]",
    "maritalStatus",
    "multipleBirthBoolean",
    "multipleBirthInteger",
    "photo[]",
    "contact[]",
    "communication[]",
    "generalPractitioner[]",
    "managingOrganization",
    "link[]",
];

pub(super) fn decide(state: &Patient, issued: &Issued<PatientCommand>) -> Result<Vec<PatientEvent>, Error> {
    if state.erased {
        // Approving once more asks for what has already happened; nothing else can be asked of it.
        let approved = matches!(issued.action, PatientCommand::ApproveErasure { .. });
        return if approved { Ok(Vec::new()) } else { Err(Error::Erased) };
    }
    match &issued.action {
        PatientCommand::Register { resource } => register(state, issued, resource),
        PatientCommand::Update { resource } => update(state, issued, resource),
        PatientCommand::RecordDeath { died_at } => record_death(state, issued, *died_at),
        PatientCommand::LinkDuplicate { survivor, survivor_exists } => link(state, *survivor, *survivor_exists),
        PatientCommand::MarkEnteredInError => mark_entered_in_error(state),
        PatientCommand::PlaceLegalHold { by, reason } => erasure::place_hold(state, by, reason),
        PatientCommand::ReleaseLegalHold { by, reason } => erasure::release_hold(state, by, reason),
        PatientCommand::RequestErasure { by, reason } => erasure::request(state, issued.now, by, reason),
        PatientCommand::WithdrawErasure { by } => erasure::withdraw(state, by),
        PatientCommand::ApproveErasure { by } => erasure::approve(state, issued.now, by),
    }
}

fn register(state: &Patient, issued: &Issued<PatientCommand>, resource: &Resource) -> Result<Vec<PatientEvent>, Error> {
    check(resource, issued.now)?;
    if repeated(state.filed.as_ref(), state.resource.as_ref(), resource)? {
        return Ok(Vec::new());
    }
    let mut notes = Vec::new();
    judge_identity(issued, resource, &mut notes)?;
    Ok(vec![PatientEvent::Registered { resource: resource.clone(), notes }])
}

/// The dead may be corrected too. A resource that is silent about a recorded death or link comes from someone who does
/// not know of it, whether decided here or elsewhere.
fn update(state: &Patient, issued: &Issued<PatientCommand>, resource: &Resource) -> Result<Vec<PatientEvent>, Error> {
    check(resource, issued.now)?;
    let standing = standing(state)?;
    if standing.digest() == resource.digest() {
        return Ok(Vec::new());
    }
    correctable(state)?;
    if is_dead(standing) && !is_dead(resource) && resource.get("deceasedBoolean").is_none() {
        return Err(Error::DeathDropped);
    }
    let mut notes = Vec::new();
    judge_identity(issued, resource, &mut notes)?;
    if let Some(replacement) = survivor(standing) {
        if survivor(resource) != Some(replacement) {
            return Err(Error::LinkDropped);
        }
        issued.judge(Err(Refusal::PatientReplaced), &mut notes)?;
    }
    Ok(vec![PatientEvent::Updated { resource: resource.clone(), notes }])
}

fn record_death(
    state: &Patient,
    issued: &Issued<PatientCommand>,
    died_at: DateTime<Utc>,
) -> Result<Vec<PatientEvent>, Error> {
    let standing = standing(state)?;
    correctable(state)?;
    if let Some(known) = death(standing) {
        if known.precision == Precision::Instant && known.earliest == died_at {
            return Ok(Vec::new());
        }
        let refines = known.precision != Precision::Instant && (known.earliest..=known.latest()).contains(&died_at);
        if !refines {
            return Err(Error::AlreadyDead);
        }
    }
    if survivor(standing).is_some() {
        return Err(Refusal::PatientReplaced.into());
    }
    if FhirDateTime::instant(died_at).is_after(issued.now) {
        return Err(Error::DeathInFuture);
    }
    if birth_earliest(standing).is_some_and(|birth| died_at < birth) {
        return Err(Error::DeathBeforeBirth);
    }
    let resource = standing.clone().without("deceasedBoolean").with("deceasedDateTime", json_time(died_at));
    Ok(vec![PatientEvent::Died { resource, died_at }])
}

/// FHIR: a record with a `replaced-by` link must no longer be used, and is not active.
fn link(state: &Patient, replacement: Uuid, survivor_exists: bool) -> Result<Vec<PatientEvent>, Error> {
    let standing = standing(state)?;
    correctable(state)?;
    match survivor(standing) {
        Some(known) if known == replacement => return Ok(Vec::new()),
        Some(_) => return Err(Refusal::PatientReplaced.into()),
        None => {}
    }
    if standing.id() == Some(replacement) {
        return Err(Error::LinkedToItself);
    }
    if !survivor_exists {
        return Err(Error::UnknownSurvivor);
    }
    let mut links = standing.items("link").to_vec();
    links.push(json!({"other": {"reference": format!("Patient/{replacement}")}, "type": "replaced-by"}));
    let resource = standing.clone().with("active", json!(false)).with("link", Value::Array(links));
    Ok(vec![PatientEvent::LinkedAsDuplicate { resource, survivor: replacement }])
}

/// FHIR gives Patient no status; `active` is false for a record that was made in error.
fn mark_entered_in_error(state: &Patient) -> Result<Vec<PatientEvent>, Error> {
    let standing = standing(state)?;
    if state.entered_in_error {
        return Ok(Vec::new());
    }
    Ok(vec![PatientEvent::EnteredInError { resource: standing.clone().with("active", json!(false)) }])
}

pub(super) fn standing(state: &Patient) -> Result<&Resource, Error> {
    state.resource.as_ref().ok_or(Error::Common(Refusal::UnknownPatient))
}

fn correctable(state: &Patient) -> Result<(), Refusal> {
    if state.entered_in_error { Err(Refusal::EnteredInError) } else { Ok(()) }
}

fn birth_earliest(resource: &Resource) -> Option<DateTime<Utc>> {
    parsed_time(resource, "/birthDate").map(|birth| birth.earliest - TimeDelta::hours(DAY_SLACK_HOURS))
}

/// Whoever is registered here can be found again. FHIR demands neither name nor identifier, and knows identifiers
/// without a value: a newborn, a number that is known to exist.
fn judge_identity(
    issued: &Issued<PatientCommand>,
    resource: &Resource,
    notes: &mut Vec<Note>,
) -> Result<(), FormError> {
    let nameless = resource.get("name").is_none() && resource.get("identifier").is_none();
    let missing = || FormError::new("required-element-missing", "/name", "A patient needs a name or an identifier.");
    issued.judge(if nameless { Err(missing()) } else { Ok(()) }, notes)?;
    let mut identifiers = resource.items("identifier").iter().enumerate();
    identifiers.try_for_each(|(index, item)| issued.judge(check_complete(index, item), notes))
}

/// Without a value it identifies nothing; without a system a record number can't be told from another house's.
fn check_complete(index: usize, identifier: &Value) -> Result<(), FormError> {
    let missing = |name: &str| Err(FormError::missing(format!("/identifier/{index}/{name}")));
    if identifier.get("value").is_none() && identifier.get("_value").is_none() {
        return missing("value");
    }
    if identifier.get("system").is_none() && is_medical_record_number(identifier) { missing("system") } else { Ok(()) }
}

/// The rules of form and sense.
fn check(resource: &Resource, now: DateTime<Utc>) -> Result<(), FormError> {
    check_shape(resource, "Patient", ELEMENTS)?;
    check_understood(resource)?;
    if resource.get("gender").is_some() {
        check_status(resource, "gender", GENDERS)?;
    }
    resource.items("identifier").iter().enumerate().try_for_each(|(index, item)| check_identifier(index, item))?;
    resource.items("link").iter().enumerate().try_for_each(|(index, item)| check_link(index, item))?;
    check_birth(resource, now)?;
    check_death(resource, now)
}

/// Whose record it is must be certain: a patient of whom something changes the meaning that nobody here knows is refused.
fn check_understood(resource: &Resource) -> Result<(), FormError> {
    match understood(resource) {
        Understanding::Understood => Ok(()),
        Understanding::NotUnderstood => {
            let detail =
                "A modifier extension or implicit rules that are not known here; a patient must be understood.";
            Err(FormError::new("not-understood", "", detail))
        }
    }
}

fn check_identifier(index: usize, identifier: &Value) -> Result<(), FormError> {
    let pointer = |name: &str| format!("/identifier/{index}/{name}");
    let text = |name: &str| match identifier.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(FormError::wrong_type(pointer(name))),
    };
    text("value")?;
    match text("system")? {
        Some(system) if !system.contains(':') || system.contains(char::is_whitespace) => {
            Err(FormError::new("bad-uri", pointer("system"), "The system of an identifier is an absolute URI."))
        }
        _ => Ok(()),
    }
}

fn check_link(index: usize, link: &Value) -> Result<(), FormError> {
    let pointer = |name: &str| format!("/link/{index}/{name}");
    link.get("other").ok_or_else(|| FormError::missing(pointer("other")))?;
    let kind = link.get("type").ok_or_else(|| FormError::missing(pointer("type")))?;
    check_value_set(kind, &pointer("type"), LINK_TYPES)
}

fn check_birth(resource: &Resource, now: DateTime<Utc>) -> Result<(), FormError> {
    let Some(birth) = parsed_time(resource, "/birthDate") else { return Ok(()) };
    if birth.precision == Precision::Instant {
        return Err(FormError::new("bad-date", "/birthDate", "A birth date has no time."));
    }
    if FhirDateTime::parse(BIRTH_EARLIEST).is_some_and(|earliest| birth.earliest < earliest.earliest) {
        return Err(FormError::new("birth-date-implausible", "/birthDate", "Nobody on record was born that early."));
    }
    check_not_after(resource, now, &["/birthDate"])
}

fn check_death(resource: &Resource, now: DateTime<Utc>) -> Result<(), FormError> {
    if resource.get("deceasedBoolean").is_some_and(|value| !value.is_boolean()) {
        return Err(FormError::wrong_type("/deceasedBoolean"));
    }
    if resource.get("deceasedBoolean").is_some() && resource.get("deceasedDateTime").is_some() {
        return Err(FormError::new("choice-twice", "/deceasedBoolean", "Only one form of deceased[x] may be given."));
    }
    check_not_after(resource, now, &["/deceasedDateTime"])?;
    match (birth_earliest(resource), death(resource)) {
        (Some(birth), Some(death)) if death.latest() < birth => {
            Err(FormError::new("death-before-birth", "/deceasedDateTime", "A patient can't die before birth."))
        }
        _ => Ok(()),
    }
}
