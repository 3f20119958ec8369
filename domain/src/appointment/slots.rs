//! The practitioners' time that an appointment takes, as claims: one for every five minutes of every practitioner.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::common::parsed_time;
use crate::fhir::{Reference, Resource};
use crate::types::Claim;

const CELL_MINUTES: i64 = 5;
/// Bounds the claims of one appointment: 144 for each practitioner.
const HOURS_MAX: i64 = 12;
/// Statuses in which nobody's time is taken.
const IDLE: &[&str] = &["cancelled", "noshow", "entered-in-error", "waitlist"];

/// Start and end, if the appointment has a time.
pub(super) fn time_of(resource: &Resource) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    Some((parsed_time(resource, "/start")?.earliest, parsed_time(resource, "/end")?.earliest))
}

/// Whether a practitioner's calendar can show the time: full cells, as claims are.
pub(super) fn is_on_grid((start, end): (DateTime<Utc>, DateTime<Utc>)) -> bool {
    let full = |time: DateTime<Utc>| time.timestamp_millis().rem_euclid(CELL_MINUTES * 60_000) == 0;
    full(start) && full(end)
}

/// Whether it takes any time. A walk-in of the past may have been written down as a moment.
pub(super) fn has_length((start, end): (DateTime<Utc>, DateTime<Utc>)) -> bool {
    end > start
}

pub(super) fn is_too_long((start, end): (DateTime<Utc>, DateTime<Utc>)) -> bool {
    end - start > TimeDelta::hours(HOURS_MAX)
}

/// The practitioners who take part and have not declined.
pub(super) fn practitioners(resource: &Resource) -> Vec<Uuid> {
    let mut found: Vec<Uuid> = resource.items("participant").iter().filter_map(practitioner).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn practitioner(participant: &Value) -> Option<Uuid> {
    let text = |pointer: &str| participant.pointer(pointer).and_then(Value::as_str);
    if text("/status") == Some("declined") || text("/required") == Some("information-only") {
        return None;
    }
    match Reference::parse(text("/actor/reference")?) {
        Reference::Resource { resource_type, id } if resource_type == "Practitioner" => Some(id),
        _ => None,
    }
}

/// The time that the appointment takes as it stands; none if it takes nobody's, or more than can be claimed.
pub(super) fn slots(resource: &Resource) -> Vec<Claim> {
    let idle = resource.text("status").is_none_or(|status| IDLE.contains(&status));
    match time_of(resource) {
        Some(time) if !idle && !is_too_long(time) => {
            let cells: Vec<i64> = cells(time).collect();
            let of = |practitioner| cells.iter().map(move |cell| Claim::practitioner_slot(practitioner, *cell));
            practitioners(resource).into_iter().flat_map(of).collect()
        }
        _ => Vec::new(),
    }
}

/// The cells that the time touches, each named by the minute in which it starts.
fn cells((start, end): (DateTime<Utc>, DateTime<Utc>)) -> impl Iterator<Item = i64> {
    let first = start.timestamp().div_euclid(CELL_MINUTES * 60);
    let last = (end - TimeDelta::milliseconds(1)).timestamp().div_euclid(CELL_MINUTES * 60);
    (first..=last).map(|cell| cell * CELL_MINUTES)
}
