//! An event at each stage of its life: new, sealed, opened.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The namespace of deterministic event ids (version 5 UUIDs); it never changes.
const EVENT_ID_NAMESPACE: Uuid = Uuid::from_u128(0x6e65_7875_7368_4561_8c74_6865_7665_6e74);

/// The type of the event that erases its subject: the last one that the log takes for it. The one type that this crate, the
/// log's migrations and every consumer know by name, since it has to be understood when nothing of it can be opened.
pub const ERASED: &str = "Patient.Erased";

/// Everything about an event that is not secret; the associated data of its seal is made from it.
///
/// `recorded_at` is the clock of the process that sealed the event, to the microsecond. It and `traceparent` are
/// the two fields that the seal does not bind: neither says what the event means or whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub aggregate_type: String,
    pub aggregate_id: Uuid,
    pub sequence: i64,
    pub subject: Uuid,
    pub event_type: String,
    pub event_version: String,
    pub key_id: Uuid,
    pub recorded_at: DateTime<Utc>,
    pub traceparent: Option<String>,
}

/// A row of the log or a record of the topic: header, place, and the sealed bytes (COSE_Encrypt0).
#[derive(Clone, Debug, PartialEq)]
pub struct SealedEvent {
    pub header: Header,
    pub partition: i32,
    pub position: i64,
    pub sealed: Vec<u8>,
}

/// What is inside an envelope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    pub payload: serde_json::Value,
    pub metadata: Metadata,
    /// Events of decisions taken here have none, nor have those from before it was kept.
    #[serde(default)]
    pub source: Option<SourceVersion>,
}

/// What the system that a fact comes from said of its version, as it wrote it (FHIR `meta.versionId` and
/// `meta.lastUpdated`). It may have said neither. Sealed together with the payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceVersion {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<String>,
}

/// Who did it and by which request. Sealed together with the payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    pub actor: String,
    pub roles: Vec<String>,
    pub request_id: String,
}

/// An event that has been decided and not yet sealed.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub aggregate_type: String,
    pub aggregate_id: Uuid,
    pub sequence: i64,
    pub subject: Uuid,
    pub event_type: String,
    pub event_version: String,
    /// JSON that goes into the envelope as it is.
    pub payload: Box<serde_json::value::RawValue>,
    /// If it states what was recorded elsewhere: what was said of the version there.
    pub source: Option<SourceVersion>,
}

/// An event read back from the log and opened.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    pub header: Header,
    pub partition: i32,
    pub position: i64,
    pub payload: serde_json::Value,
    pub metadata: Metadata,
    pub source: Option<SourceVersion>,
}

/// The id that an event carries wherever it goes (`ce_id`): the same event always gets the same one.
pub fn event_id(aggregate_type: &str, aggregate_id: Uuid, sequence: i64) -> Uuid {
    Uuid::new_v5(&EVENT_ID_NAMESPACE, format!("{aggregate_type}/{aggregate_id}/{sequence}").as_bytes())
}

/// The clock, cut to what Postgres and the record headers keep, so that a value equals its own copy.
pub(crate) fn now() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_a_function_of_the_place_in_its_stream() {
        let id = Uuid::from_u128(1);
        assert_eq!(event_id("Patient", id, 1), event_id("Patient", id, 1));
        assert_ne!(event_id("Patient", id, 1), event_id("Patient", id, 2));
        assert_ne!(event_id("Patient", id, 1), event_id("Consent", id, 1));
        assert_eq!(event_id("Patient", id, 1).get_version_num(), 5);
    }
}
