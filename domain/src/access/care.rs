//! Who cares for a patient, and when: read from encounters and appointments.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::common::parsed_time;
use crate::fhir::modifiers::is_understood;
use crate::fhir::{Reference, Resource};

/// How long a finished encounter counts: its documentation still has to be written.
pub const AFTER_ENCOUNTER: TimeDelta = TimeDelta::days(30);
/// How long before its start and after its end an appointment counts.
pub const AROUND_APPOINTMENT: TimeDelta = TimeDelta::hours(24);

/// Those who care for a patient because of one encounter or appointment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Care {
    /// Who takes part: practitioners of the directory.
    pub practitioners: Vec<Uuid>,
    /// Who provides it: organizations of the directory.
    pub organizations: Vec<Uuid>,
    /// When it begins to count; nothing if it counts from the beginning of time.
    pub from: Option<DateTime<Utc>>,
    /// When it no longer counts; nothing as long as it is open.
    pub until: Option<DateTime<Utc>>,
}

impl Care {
    /// What an encounter or appointment says; nothing if it is neither, or never counts.
    pub fn of(resource: &Resource) -> Option<Self> {
        // What nobody understands opens no record.
        if !is_understood(resource) {
            return None;
        }
        let (from, until) = match resource.resource_type() {
            "Encounter" => encounter_time(resource)?,
            "Appointment" => appointment_time(resource)?,
            _ => return None,
        };
        let participants = resource.items("participant").iter();
        let practitioners = participants.filter_map(practitioner).collect();
        let provider = resource.text_at("/serviceProvider/reference");
        Some(Self { practitioners, organizations: named(provider, "Organization").into_iter().collect(), from, until })
    }

    /// Whether it counts at this moment.
    pub fn counts_at(&self, now: DateTime<Utc>) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

type Bounds = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

fn encounter_time(encounter: &Resource) -> Option<Bounds> {
    match encounter.text("status")? {
        "planned" | "arrived" | "triaged" | "in-progress" | "onleave" => Some((None, None)),
        // One that does not say when it ended can't be told from one long ago.
        "finished" => {
            let end = parsed_time(encounter, "/period/end")?.latest();
            Some((None, Some(end.checked_add_signed(AFTER_ENCOUNTER)?)))
        }
        _ => None,
    }
}

fn appointment_time(appointment: &Resource) -> Option<Bounds> {
    if matches!(appointment.text("status")?, "cancelled" | "noshow" | "entered-in-error") {
        return None;
    }
    let start = parsed_time(appointment, "/start")?;
    let end = parsed_time(appointment, "/end").unwrap_or(start);
    let from = start.earliest.checked_sub_signed(AROUND_APPOINTMENT)?;
    Some((Some(from), Some(end.latest().checked_add_signed(AROUND_APPOINTMENT)?)))
}

/// Encounters say `individual`, appointments say `actor`; who declined takes no part.
fn practitioner(participant: &Value) -> Option<Uuid> {
    if participant.get("status").and_then(Value::as_str) == Some("declined") {
        return None;
    }
    let who = participant.get("individual").or_else(|| participant.get("actor"))?;
    named(who.get("reference").and_then(Value::as_str), "Practitioner")
}

/// The id in a reference to a resource of this type.
pub(super) fn named(reference: Option<&str>, resource_type: &str) -> Option<Uuid> {
    match Reference::parse(reference?) {
        Reference::Resource { resource_type: found, id } if found == resource_type => Some(id),
        _ => None,
    }
}
