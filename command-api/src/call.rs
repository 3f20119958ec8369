//! Who asks, and how the command is to be carried out: the part of a request that all commands share.

use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use nexus_auth::Caller;
use nexus_domain::fhir::derived_id;
use nexus_event_store::{Append, IdempotencyKey, Metadata};
use nexus_web::problem::Problem;
use nexus_web::telemetry::current_traceparent;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The header of the IETF draft <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const NEXUS_WAIT_MS: HeaderName = HeaderName::from_static("nexus-wait-ms");
/// How long a caller who asks for it waits for Kafka at most.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A key longer than this is refused.
const KEY_BYTES_MAX: usize = 255;

/// Who asks, and how the command is to be carried out.
#[derive(Clone, Debug)]
pub struct Call {
    pub caller: Caller,
    pub metadata: Metadata,
    pub traceparent: Option<String>,
    pub idempotency: Option<IdempotencyKey>,
    pub if_match: Option<IfMatch>,
    pub prefer: Prefer,
}

/// What the caller would like (RFC 7240).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefer {
    /// Answer only once the events are in Kafka.
    pub wait_for_kafka: bool,
    /// For how long at most.
    pub wait_at_most: Duration,
    /// Answer without a body where it says nothing that the headers don't.
    pub minimal: bool,
}

/// The sequences at which the caller wants the command to be decided (RFC 9110, `If-Match`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: whatever it is, as long as it exists.
    Any,
    OneOf(Vec<i64>),
}

impl IfMatch {
    /// Whether a stream at this sequence will do.
    pub fn holds(&self, sequence: i64) -> bool {
        match self {
            Self::Any => sequence > 0,
            Self::OneOf(sequences) => sequences.contains(&sequence),
        }
    }
}

impl Call {
    /// Reads the headers. `body` is what the key's fingerprint covers, beside method, path and precondition.
    pub fn new(parts: &Parts, caller: Caller, request_id: Uuid, body: &[u8]) -> Result<Self, Problem> {
        let metadata =
            Metadata { actor: caller.id().to_owned(), roles: caller.role_names(), request_id: request_id.to_string() };
        let key = idempotency_key(&parts.headers)?;
        let actor = &metadata.actor;
        let idempotency =
            key.map(|key| IdempotencyKey { actor: actor.clone(), key, fingerprint: fingerprint(parts, body) });
        Ok(Self {
            traceparent: current_traceparent(),
            idempotency,
            if_match: if_match(&parts.headers)?,
            prefer: prefer(&parts.headers),
            caller,
            metadata,
        })
    }

    /// An append that stores nothing but an answer, for a retry under the same key; nothing if there is no key.
    pub fn answer_only(&self, response: Value) -> Option<Append> {
        let key = self.idempotency.clone()?;
        Some(Append {
            idempotency: Some(key),
            response,
            expect: Vec::new(),
            take: Vec::new(),
            release: Vec::new(),
            events: Vec::new(),
            metadata: self.metadata.clone(),
            traceparent: None,
        })
    }

    /// The id of what this request creates: the same one for each retry under the same key.
    pub fn new_id(&self) -> Uuid {
        self.new_id_of("")
    }

    /// The id of one of several things that this request creates.
    pub fn new_id_of(&self, part: &str) -> Uuid {
        match &self.idempotency {
            Some(IdempotencyKey { actor, key, .. }) => derived_id(&[actor, key, part]),
            None => Uuid::now_v7(),
        }
    }
}

fn fingerprint(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let if_match = parts.headers.get(header::IF_MATCH).map_or(&b""[..], |value| value.as_bytes());
    for text in [parts.method.as_str().as_bytes(), parts.uri.path().as_bytes(), if_match, body] {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    hasher.finalize().into()
}

fn bad_key() -> Problem {
    Problem::invalid_parameter("Idempotency-Key", "A key has 1 to 255 bytes of visible ASCII.")
}

fn bad_tag() -> Problem {
    Problem::invalid_parameter("If-Match", "An entity tag reads \"3\"; several are joined by commas; * is any.")
}

/// The draft has the key as a structured-field string, `"8e03…"`; a bare one is as common and taken too.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    // Of two, a proxy and we might each believe another one.
    if values.next().is_some() {
        return Err(bad_key());
    }
    let text = value.to_str().map_err(|_| bad_key())?.trim();
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(bad_key());
    }
    Ok(Some(key.to_owned()))
}

/// `"3"`, and `W/"3"` as FHIR writes it.
fn if_match(headers: &HeaderMap) -> Result<Option<IfMatch>, Problem> {
    let mut sequences = Vec::new();
    // Several fields mean the same as one with commas (RFC 9110, section 5.3).
    for value in headers.get_all(header::IF_MATCH) {
        let text = value.to_str().map_err(|_| bad_tag())?.trim();
        if text == "*" {
            return Ok(Some(IfMatch::Any));
        }
        for tag in text.split(',') {
            sequences.push(entity_tag(tag.trim()).ok_or_else(bad_tag)?);
        }
    }
    Ok((!sequences.is_empty()).then_some(IfMatch::OneOf(sequences)))
}

/// The sequence in an entity tag.
pub fn entity_tag(tag: &str) -> Option<i64> {
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// What is not understood is ignored, and of two that contradict each other the first counts, as RFC 7240 says.
fn prefer(headers: &HeaderMap) -> Prefer {
    let mut prefer = Prefer { wait_for_kafka: false, wait_at_most: wait_at_most(headers), minimal: false };
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut returned = None;
    for (name, value) in values.flat_map(preferences) {
        match (name.as_str(), value) {
            ("wait", "kafka") => prefer.wait_for_kafka = true,
            ("return", value) => prefer.minimal = *returned.get_or_insert(value) == "minimal",
            _ => {}
        }
    }
    prefer
}

/// Name and value of each preference, without its parameters: `return="minimal"; foo="x,y", wait=10`.
fn preferences(header: &str) -> impl Iterator<Item = (String, &str)> {
    let mut quoted = false;
    let ends = move |letter: char| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    };
    header.split(ends).map(|preference| {
        let bare = preference.split_once(';').map_or(preference, |(bare, _)| bare);
        let (name, value) = bare.split_once('=').unwrap_or((bare, ""));
        (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"'))
    })
}

fn wait_at_most(headers: &HeaderMap) -> Duration {
    let wanted = headers.get(NEXUS_WAIT_MS).and_then(|value| value.to_str().ok()?.parse().ok());
    wanted.map_or(WAIT_MAX, Duration::from_millis).min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn entity_tags_are_sequences() {
        let read = |value| if_match(&headers("if-match", value));
        assert_eq!(read("\"3\"").unwrap(), Some(IfMatch::OneOf(vec![3])));
        assert_eq!(read("W/\"3\", \"4\"").unwrap(), Some(IfMatch::OneOf(vec![3, 4])));
        assert_eq!(read("*").unwrap(), Some(IfMatch::Any));
        for bad in ["3", "\"x\"", "\"-1\"", "\"\"", "\"99999999999999999999\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let several = ["\"3\"", "W/\"4\", \"7\""].map(|value| (header::IF_MATCH, HeaderValue::from_static(value)));
        assert_eq!(if_match(&several.into_iter().collect()).unwrap(), Some(IfMatch::OneOf(vec![3, 4, 7])));
        assert!(!IfMatch::Any.holds(0) && IfMatch::Any.holds(1) && !IfMatch::OneOf(vec![3]).holds(2));
    }

    #[test]
    fn a_key_comes_quoted_or_bare() {
        let read = |value| idempotency_key(&headers("idempotency-key", value));
        assert_eq!(read("\"a-1\"").unwrap().as_deref(), Some("a-1"));
        assert_eq!(read("a-1").unwrap().as_deref(), Some("a-1"));
        assert!(read("").is_err() && read("\"\"").is_err());
        let twice = ["a-1", "a-2"].map(|value| (IDEMPOTENCY_KEY, HeaderValue::from_static(value)));
        assert!(idempotency_key(&twice.into_iter().collect()).is_err());
    }

    #[test]
    fn preferences_are_read_and_unknown_ones_ignored() {
        let read = |value| prefer(&headers("prefer", value));
        let read = |value| (read(value).wait_for_kafka, read(value).minimal);
        assert_eq!(read("wait=kafka, return=minimal"), (true, true));
        assert_eq!(read("respond-async"), (false, false));
        assert_eq!(read("Return=\"minimal\"; note=\"a,b\", wait=kafka; x"), (true, true));
        assert_eq!(read("foo=\"return=minimal, wait=kafka\""), (false, false));
        assert_eq!(read("return=representation, return=minimal"), (false, false));
        assert_eq!(prefer(&headers("nexus-wait-ms", "250")).wait_at_most, Duration::from_millis(250));
        assert_eq!(prefer(&headers("nexus-wait-ms", "999999")).wait_at_most, WAIT_MAX);
    }
}
