//! The rules of form and sense of an observation.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use super::limits::{check_limits, check_units};
use crate::common::{check_concept, check_not_after, check_period, check_shape, check_status, check_subject};
use crate::fhir::{Comparator, FhirDateTime, RESULTS, Resource};
use crate::types::FormError;

pub(super) const STATUSES: &[&str] =
    &["registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"];
const EFFECTIVE: &[&str] = &["effectiveDateTime", "effectivePeriod", "effectiveTiming", "effectiveInstant"];
/// The times that lie behind whoever states them.
const BEGAN: &[&str] = &[
    "/effectiveDateTime",
    "/effectiveInstant",
    "/effectivePeriod/start",
    "/effectiveTiming/event/0",
    "/effectiveTiming/repeat/boundsPeriod/start",
    "/issued",
];
const ELEMENTS: &[&str] = &[
    "identifier[]",
    "basedOn[]",
    "partOf[]",
    "status",
    "category[]",
    "code",
    "subject",
    "focus[]",
    "encounter",
    "effectiveDateTime",
    "effectivePeriod",
    "effectiveTiming",
    "effectiveInstant",
    "issued",
    "performer[]",
    "valueQuantity",
    "valueCodeableConcept",
    "valueString",
    "valueBoolean",
    "valueInteger",
    "valueRange",
    "valueRatio",
    "valueSampledData",
    "valueTime",
    "valueDateTime",
    "valuePeriod",
    "dataAbsentReason",
    "interpretation[]",
    "note[]",
    "bodySite",
    "method",
    "specimen",
    "device",
    "referenceRange[]",
    "hasMember[]",
    "derivedFrom[]",
    "component[]",
];

/// How far a clock may be ahead that states history: a local time that was written down as one of UTC is, by its zone.
const AHEAD_MAX: TimeDelta = TimeDelta::hours(14);

pub(super) fn check(resource: &Resource, now: DateTime<Utc>) -> Result<(), FormError> {
    check_shape(resource, "Observation", ELEMENTS)?;
    check_status(resource, "status", STATUSES)?;
    check_concept(resource.get("code"), "/code")?;
    check_subject(resource)?;
    check_times(resource)?;
    // When a period ends that somebody else has written down is for them to know.
    check_not_after(resource, now + AHEAD_MAX, BEGAN)?;
    check_values(resource)?;
    if says_nothing(resource) { Ok(()) } else { check_limits(resource) }
}

/// The clock of whoever observed is not ahead of ours.
pub(super) fn check_clock(resource: &Resource, now: DateTime<Utc>) -> Result<(), FormError> {
    check_not_after(resource, now, BEGAN)?;
    check_not_after(resource, now, &["/effectivePeriod/end"])
}

/// Vital signs are measured in units that anybody can compare.
pub(super) fn check_comparable(resource: &Resource) -> Result<(), FormError> {
    if says_nothing(resource) { Ok(()) } else { check_units(resource) }
}

/// What was taken back states no value any more, however impossible it was: that may be the reason.
fn says_nothing(resource: &Resource) -> bool {
    matches!(resource.text("status"), Some("cancelled" | "entered-in-error"))
}

fn check_times(resource: &Resource) -> Result<(), FormError> {
    only_one(resource.members(), EFFECTIVE, "")?;
    check_period(resource, "/effectivePeriod")?;
    check_timing(resource)
}

/// The moments of a `Timing` are dates or times, and its bounds a period.
fn check_timing(resource: &Resource) -> Result<(), FormError> {
    let Some(timing) = resource.get("effectiveTiming") else { return Ok(()) };
    let pointer = "/effectiveTiming";
    if !timing.is_object() || timing.get("repeat").is_some_and(|repeat| !repeat.is_object()) {
        return Err(FormError::wrong_type(pointer));
    }
    let Some(events) = timing.get("event") else {
        return check_period(resource, &format!("{pointer}/repeat/boundsPeriod"));
    };
    let Some(events) = events.as_array() else { return Err(FormError::wrong_type(format!("{pointer}/event"))) };
    events.iter().enumerate().filter(|(_, event)| !event.is_null()).try_for_each(|(index, event)| {
        match event.as_str().and_then(FhirDateTime::parse) {
            Some(_) => Ok(()),
            None => Err(FormError::new(
                "bad-date",
                format!("{pointer}/event/{index}"),
                "This is no FHIR date, dateTime or instant.",
            )),
        }
    })
}

/// A finished observation says what was found, or why nothing was.
fn check_values(resource: &Resource) -> Result<(), FormError> {
    let mut found = check_value(resource.members(), "")?;
    for (index, component) in resource.items("component").iter().enumerate() {
        let pointer = format!("/component/{index}");
        let Value::Object(members) = component else { return Err(FormError::wrong_type(pointer)) };
        check_concept(members.get("code"), &format!("{pointer}/code"))?;
        found |= check_value(members, &pointer)?;
    }
    let elsewhere = ["hasMember", "derivedFrom", "interpretation", "note", "extension"]
        .iter()
        .any(|name| resource.get(name).is_some());
    let finished = matches!(resource.text("status"), Some("final" | "amended" | "corrected"));
    if finished && !found && !elsewhere {
        return Err(FormError::new(
            "value-missing",
            "/valueQuantity",
            "A final observation needs a value or the reason why there is none.",
        ));
    }
    Ok(())
}

/// Whether there is a value or a reason for its absence; FHIR obs-6: not both.
fn check_value(members: &Map<String, Value>, pointer: &str) -> Result<bool, FormError> {
    let values = RESULTS.split_last().map_or(&[][..], |(_, values)| values);
    let value = only_one(members, values, pointer)?;
    let absent = members.contains_key("dataAbsentReason");
    if value.is_some() && absent {
        return Err(FormError::new(
            "value-and-absent-reason",
            format!("{pointer}/dataAbsentReason"),
            "A value that is there has no reason for being absent.",
        ));
    }
    if let Some(name) = value {
        check_type(name, &members[name], &format!("{pointer}/{name}"))?;
    }
    Ok(value.is_some() || absent)
}

fn only_one(
    members: &Map<String, Value>,
    choices: &[&'static str],
    pointer: &str,
) -> Result<Option<&'static str>, FormError> {
    let mut given = choices.iter().filter(|name| members.contains_key(**name));
    match (given.next(), given.next()) {
        (_, Some(second)) => Err(FormError::new(
            "choice-twice",
            format!("{pointer}/{second}"),
            "Only one of an element's types may be given.",
        )),
        (first, None) => Ok(first.copied()),
    }
}

fn check_type(name: &str, value: &Value, pointer: &str) -> Result<(), FormError> {
    let right = match name {
        "valueBoolean" => value.is_boolean(),
        "valueInteger" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        "valueString" | "valueTime" | "valueDateTime" => value.is_string(),
        "valueQuantity" => value.is_object() && value.get("value").is_none_or(Value::is_number),
        _ => value.is_object(),
    };
    if name == "valueQuantity" && right {
        check_comparator(value, pointer)?;
    }
    if right { Ok(()) } else { Err(FormError::wrong_type(pointer)) }
}

fn check_comparator(quantity: &Value, pointer: &str) -> Result<(), FormError> {
    match quantity.get("comparator") {
        None => Ok(()),
        Some(Value::String(code)) if Comparator::parse(code).is_some() => Ok(()),
        Some(Value::String(_)) => Err(FormError::unknown_code(format!("{pointer}/comparator"))),
        Some(_) => Err(FormError::wrong_type(format!("{pointer}/comparator"))),
    }
}
