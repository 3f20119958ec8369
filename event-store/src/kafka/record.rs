//! A record: the subject id as key, the sealed bytes as value, CloudEvents 1.0 (binary mode) and our own words as headers.

use chrono::{DateTime, SecondsFormat, Utc};
use rdkafka::Message;
use rdkafka::message::{Header as RecordHeader, Headers, OwnedHeaders};
use uuid::Uuid;

use crate::event::{Header, SealedEvent, event_id};

const SOURCE: &str = "/nexushealth/";
const CONTENT_TYPE: &str = "application/cose";

/// Why a record can't be read. Names the element, never its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is not of the documented form")]
    Malformed(&'static str),
}

/// The key of an event's record: the subject id as lower-case text, which is what the partition is made from.
pub fn record_key(event: &SealedEvent) -> String {
    event.header.subject.to_string()
}

/// The headers of an event's record.
pub fn record_headers(event: &SealedEvent) -> OwnedHeaders {
    let header = &event.header;
    let fixed = [
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", event_id(&header.aggregate_type, header.aggregate_id, header.sequence).to_string()),
        ("ce_type", header.event_type.clone()),
        ("ce_source", format!("{SOURCE}{}", header.aggregate_type)),
        ("ce_subject", header.aggregate_id.to_string()),
        ("ce_time", header.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true)),
        ("content-type", CONTENT_TYPE.to_owned()),
        ("position", event.position.to_string()),
        ("sequence", header.sequence.to_string()),
        ("schema", header.event_version.clone()),
        ("key-id", header.key_id.to_string()),
    ];
    let traced = header.traceparent.iter().map(|traceparent| ("traceparent", traceparent.clone()));
    let headers = OwnedHeaders::new_with_capacity(fixed.len() + 1);
    fixed
        .into_iter()
        .chain(traced)
        .fold(headers, |headers, (key, value)| headers.insert(RecordHeader { key, value: Some(value.as_str()) }))
}

/// Rebuilds an event from a record.
pub fn parse_record(record: &impl Message) -> Result<SealedEvent, RecordError> {
    let fields = Fields::of(record)?;
    let aggregate_type =
        fields.text("ce_source")?.strip_prefix(SOURCE).ok_or(RecordError::Malformed("ce_source"))?.to_owned();
    let subject = record.key().ok_or(RecordError::Missing("key")).and_then(|key| parse("key", key))?;
    let header = Header {
        aggregate_type,
        aggregate_id: fields.parsed("ce_subject")?,
        sequence: fields.parsed("sequence")?,
        subject,
        event_type: fields.text("ce_type")?.to_owned(),
        event_version: fields.text("schema")?.to_owned(),
        key_id: fields.parsed("key-id")?,
        recorded_at: fields.parsed::<DateTime<Utc>>("ce_time")?,
        traceparent: fields.text("traceparent").ok().map(str::to_owned),
    };
    if fields.parsed::<Uuid>("ce_id")? != event_id(&header.aggregate_type, header.aggregate_id, header.sequence) {
        return Err(RecordError::Malformed("ce_id"));
    }
    Ok(SealedEvent {
        header,
        partition: record.partition(),
        position: fields.parsed("position")?,
        sealed: record.payload().ok_or(RecordError::Missing("value"))?.to_vec(),
    })
}

/// The position that a record says it has.
pub(super) fn position(record: &impl Message) -> Result<i64, RecordError> {
    Fields::of(record)?.parsed("position")
}

struct Fields<'a>(Vec<(&'a str, &'a [u8])>);

impl<'a> Fields<'a> {
    fn of(record: &'a impl Message) -> Result<Self, RecordError> {
        let headers = record.headers().ok_or(RecordError::Missing("headers"))?;
        Ok(Self(headers.iter().filter_map(|header| Some((header.key, header.value?))).collect()))
    }

    fn text(&self, name: &'static str) -> Result<&'a str, RecordError> {
        let (_, value) = self.0.iter().find(|(key, _)| *key == name).ok_or(RecordError::Missing(name))?;
        std::str::from_utf8(value).map_err(|_| RecordError::Malformed(name))
    }

    fn parsed<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, RecordError> {
        self.text(name)?.parse().map_err(|_| RecordError::Malformed(name))
    }
}

fn parse<T: std::str::FromStr>(name: &'static str, bytes: &[u8]) -> Result<T, RecordError> {
    let text = std::str::from_utf8(bytes).map_err(|_| RecordError::Malformed(name))?;
    text.parse().map_err(|_| RecordError::Malformed(name))
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    use super::*;

    fn event(traceparent: Option<&str>) -> SealedEvent {
        let header = Header {
            aggregate_type: "Observation".into(),
            aggregate_id: Uuid::new_v4(),
            sequence: 7,
            subject: Uuid::new_v4(),
            event_type: "Observation.Recorded".into(),
            event_version: "1.0".into(),
            key_id: Uuid::new_v4(),
            recorded_at: crate::event::now(),
            traceparent: traceparent.map(Into::into),
        };
        SealedEvent { header, partition: 3, position: 42, sealed: vec![1, 2, 3] }
    }

    fn record(key: Option<String>, headers: OwnedHeaders) -> OwnedMessage {
        let key = key.map(String::into_bytes);
        OwnedMessage::new(Some(vec![1, 2, 3]), key, "t".into(), Timestamp::NotAvailable, 3, 0, Some(headers))
    }

    #[test]
    fn a_record_reads_back_as_the_event_it_was_made_from() {
        for event in [event(None), event(Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))] {
            let record = record(Some(record_key(&event)), record_headers(&event));
            assert_eq!(parse_record(&record), Ok(event));
        }
    }

    #[test]
    fn a_record_with_a_part_missing_names_the_part() {
        let event = event(None);
        let headers = record_headers(&event);
        let parts =
            ["ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "position", "sequence", "schema", "key-id"];
        for part in parts {
            let kept = headers.iter().filter(|header| header.key != part);
            let kept = kept.fold(OwnedHeaders::new(), |kept, header| kept.insert(header));
            assert_eq!(parse_record(&record(Some(record_key(&event)), kept)), Err(RecordError::Missing(part)));
        }
        assert_eq!(parse_record(&record(None, headers)), Err(RecordError::Missing("key")));
    }
}
