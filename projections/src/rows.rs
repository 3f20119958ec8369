//! What read models share when they turn a batch of events into rows.
//!
//! Every event carries the whole resource as it stands afterwards, so of several events about one thing in a batch only
//! the last makes a row. Columns hold opaque ids, coded values, statuses, clinical times and numbers; whatever a person
//! could be known by goes into one sealed column per row.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use nexus_domain::access;
use nexus_domain::fhir::{self, FhirDateTime, Precision, Reference, Resource, TimeKind, When, modifiers, naming};
use nexus_domain::observation::{self, NotCounted};
use nexus_event_store::Keyring;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::types::Json;
use uuid::Uuid;

use crate::read_model::Event;

/// The statuses of an encounter whose patient is in the house.
const PRESENT: &[&str] = &["arrived", "triaged", "in-progress", "onleave"];

/// Bytes of a text in an indexed column: short enough for two of them in an entry of an index, which may have some 2,700
/// bytes. Nearly every code is shorter; an expression of SNOMED CT need not be.
const COLUMN_BYTES_MAX: usize = 500;
/// Letters of the hash that stands for what a column can't hold.
const HASH_LETTERS: usize = 16;

/// The last event of each aggregate, in the order of their ids, so that inserts meet the index in its own order.
pub fn latest(events: &[Event], wanted: impl Fn(&Event) -> bool) -> Vec<&Event> {
    let mut last = BTreeMap::new();
    for event in events.iter().filter(|event| wanted(event)) {
        last.insert((event.aggregate_id, event.aggregate_type.as_str()), event);
    }
    last.into_values().collect()
}

/// Seals a row's private part with the key of the event's subject. `context` names read model, table and row.
pub fn seal(keyring: &Keyring, event: &Event, context: &str, private: &impl Serialize) -> Vec<u8> {
    let plain = serde_json::to_vec(private).expect("structs of strings, numbers and JSON serialize");
    keyring.seal_row(&event.key, context, &plain)
}

/// The status that matters to a reader: what makes the resource no fact outranks it.
pub fn status_of(resource: &Resource) -> Option<&str> {
    modifiers::status(resource)
}

/// System and code of what the resource is about, without NUL.
pub fn code_of(resource: &Resource) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    naming::code_of(resource).map(|(system, code)| (whole(system), whole(code)))
}

/// A text as an indexed column takes it, so that no event can be refused by the database for what it says: without NUL,
/// which Postgres does not know, and no longer than [`COLUMN_BYTES_MAX`]. Of a longer one the beginning is kept, with a hash
/// of the whole, so that different texts stay different. A search takes what it looks for through here too.
pub fn column(text: &str) -> Cow<'_, str> {
    let text = whole(text);
    if text.len() <= COLUMN_BYTES_MAX {
        return text;
    }
    let hash = hex::encode(Sha256::digest(text.as_bytes()));
    let end = format!("…{}", hash.get(..HASH_LETTERS).unwrap_or(&hash));
    let mut column = text.into_owned();
    while column.len() + end.len() > COLUMN_BYTES_MAX {
        column.pop();
    }
    Cow::Owned(column + &end)
}

/// A text as any other column takes it: without NUL.
pub fn whole(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "")) } else { Cow::Borrowed(text) }
}

/// The codes by which a consent may mean the resource ([`access::codes()`]). None is cut: it is compared with what the
/// consent says.
pub fn codes(resource: &Resource) -> Json<Vec<String>> {
    Json(access::codes(resource).iter().map(|code| whole(code).into_owned()).collect())
}

/// The text that a person reads for a `CodeableConcept` (or the first of several).
pub fn concept_text(concept: Option<&Value>) -> Option<&str> {
    concept.and_then(naming::words_of)
}

/// System and code of a `CodeableConcept` or `Coding` (or of the first of several), without NUL. Where an index holds them,
/// [`column`] has to shorten them.
pub fn concept_code(concept: Option<&Value>) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    naming::coded(concept?).map(|(system, code)| (whole(system), whole(code)))
}

/// The id in a reference to a resource of this type, such as `Location/<uuid>`.
pub fn referenced(reference: Option<&str>, resource_type: &str) -> Option<Uuid> {
    match Reference::parse(reference?) {
        Reference::Resource { resource_type: found, id } if found == resource_type => Some(id),
        _ => None,
    }
}

/// Where an encounter is.
#[derive(Clone, Copy)]
pub struct Place {
    pub location: Uuid,
    pub since: Option<DateTime<Utc>>,
}

/// The last of the encounter's locations that is neither over nor only meant.
pub fn place(encounter: &Resource) -> Option<Place> {
    let current = |item: &&Value| {
        let status = item.get("status").and_then(Value::as_str);
        !matches!(status, Some("completed" | "planned" | "reserved")) && item.pointer("/period/end").is_none()
    };
    let item = encounter.items("location").iter().rev().find(current)?;
    let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str);
    let location = referenced(text("/location/reference"), "Location")?;
    Some(Place { location, since: moment(text("/period/start")) })
}

/// Whether the patient of an encounter is in the house, as far as anybody here understands it.
pub fn is_present(encounter: &Resource) -> bool {
    encounter.text("status").is_some_and(|status| PRESENT.contains(&status)) && modifiers::is_understood(encounter)
}

/// When something happened, as it was stated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatedTime {
    /// `moment`; `period`, which may lack an end or a start; `timing`, from its first to its last moment; or `written`, where
    /// only the time of writing or release is stated.
    #[schema(value_type = String, example = "moment")]
    pub kind: TimeKind,
    /// The start, or the only moment, in the letters that came: `2018-05` is some time in that month.
    #[schema(example = "2018-05")]
    pub start: Option<String>,
    pub end: Option<String>,
    /// `year`, `month`, `day` or `instant`: how much is known of the less precise of the two.
    #[schema(value_type = String, example = "month")]
    pub precision: Precision,
}

impl From<&When> for StatedTime {
    fn from(when: &When) -> Self {
        Self {
            kind: when.kind,
            start: when.start().map(str::to_owned),
            end: when.end().map(str::to_owned),
            precision: when.precision(),
        }
    }
}

/// When it happened, as far as it says so.
pub fn occurred(event: &Event) -> Option<When> {
    fhir::clinical_time(event.fact.resource())
}

/// Where it stands in an order by time: by the first moment at which it can have happened; what states no time, where it was
/// recorded. It is a place, not a statement: that is [`occurred`].
pub fn stands_at(event: &Event) -> DateTime<Utc> {
    occurred(event).map_or(event.recorded_at, |when| when.earliest())
}

/// Whether an observation counts as a finding about the patient whose event it is ([`observation::counts`]).
///
/// # Errors
/// Why not.
pub fn counts(event: &Event) -> Result<(), NotCounted> {
    let resource = event.fact.resource();
    observation::counts(resource)?;
    let is_own = referenced(resource.text_at("/subject/reference"), "Patient") == Some(event.subject);
    if is_own { Ok(()) } else { Err(NotCounted::NotThePatient) }
}

/// A FHIR date or time as a moment: the first that it can mean.
pub fn moment(text: Option<&str>) -> Option<DateTime<Utc>> {
    FhirDateTime::parse(text?).map(|time| time.earliest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_gets_no_nul_and_no_more_than_it_can_index() {
        assert_eq!(column("8480-6"), "8480-6");
        assert_eq!(column("84\080-6\0"), "8480-6");
        let exact = "é".repeat(COLUMN_BYTES_MAX / 2);
        assert_eq!(column(&exact), exact);
        let long = format!("{exact}é");
        let cut = column(&long);
        assert!(cut.len() <= COLUMN_BYTES_MAX && cut.starts_with("éé") && cut.contains('…'), "{cut}");
        assert_eq!(column(&format!("\0{long}")), cut);
    }

    #[test]
    fn texts_that_differ_only_at_their_end_stay_different() {
        let one = format!("{}1", "7".repeat(3 * COLUMN_BYTES_MAX));
        let other = format!("{}2", "7".repeat(3 * COLUMN_BYTES_MAX));
        assert_ne!(column(&one), column(&other));
        let coded = serde_json::json!({"resourceType": "Basic", "code": {"coding": [{"code": one}]}});
        assert_eq!(codes(&Resource::parse(coded).unwrap()).0, [one]);
    }
}
