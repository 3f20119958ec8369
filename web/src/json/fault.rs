//! From `serde`'s messages to faults that quote nothing.
//!
//! A message such as `invalid type: string "Jane", expected u32` holds what was sent. Only two things are taken from it:
//! its kind, and the part that comes from our own types (what was expected; which member is missing).

use serde_path_to_error::{Path, Segment};

use crate::problem::Fault;

/// The longest text that is taken from a message, in bytes.
const EXPECTED_BYTES_MAX: usize = 300;

/// Names that differ from what was sent by at most this many letters are suggested instead.
const SUGGESTED_DISTANCE_MAX: usize = 2;

/// A fault at a path of a body.
pub(crate) fn of_serde(path: &Path, error: &serde_json::Error) -> Fault {
    let message = error.to_string();
    if let Some(sent) = unknown_member(&message) {
        return unknown(path, sent, &message, error.line(), error.column());
    }
    let (code, detail) = classify(&message);
    let pointer = pointer_of(path.iter());
    match missing_member(&message) {
        Some(member) => Fault::new(format!("{pointer}/{}", escape(member)), code, detail),
        None => Fault::new(pointer, code, detail),
    }
}

/// An unknown member is the sender's text, name included: it is told by its object, line and column, and by the known
/// name that it resembles.
fn unknown(path: &Path, sent: &str, message: &str, line: usize, column: usize) -> Fault {
    let within = path.iter().take_while(|segment| !matches!(segment, Segment::Map { key } if key == sent));
    let known = expected(message).unwrap_or_default();
    let names = known.split('`').skip(1).step_by(2);
    let nearest = names.min_by_key(|name| strsim::osa_distance(name, sent));
    let hint = match nearest.filter(|name| strsim::osa_distance(name, sent) <= SUGGESTED_DISTANCE_MAX) {
        Some(name) => format!(" Did you mean `{name}`?"),
        None if known.is_empty() => String::new(),
        None => format!(" Expected {known}."),
    };
    let detail = format!("There is no such member here (line {line}, column {column}).{hint}");
    Fault::new(pointer_of(within), "unknown-member", detail)
}

fn unknown_member(message: &str) -> Option<&str> {
    let from_name = message.strip_prefix("unknown field `")?;
    from_name.rsplit_once(", expected ").or_else(|| from_name.rsplit_once(", there are no fields"))?.0.strip_suffix('`')
}

/// The parameter and what is wrong with it, from the message of the query deserializer. An unknown parameter is not named,
/// since its name is the sender's; the known ones are.
pub(crate) fn query_fault(message: &str) -> (String, String) {
    if let Some((_, from_kind)) = message.split_once("unknown field ") {
        let known = expected(from_kind).map(|known| format!(" Expected {known}.")).unwrap_or_default();
        return ("query".to_owned(), format!("There is no such parameter.{known}"));
    }
    if let Some((_, from_kind)) = message.split_once("missing field `") {
        let name = from_kind.split('`').next().unwrap_or("query");
        return (name.to_owned(), "This parameter is needed.".to_owned());
    }
    // The deserializer puts the parameter's name first: `limit: invalid digit found in string`.
    let name = message.split_once(": ").map(|(name, _)| name);
    let is_name =
        |name: &&str| name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (name.filter(is_name).unwrap_or("query").to_owned(), "The value is not acceptable here.".to_owned())
}

/// A reference token of a JSON pointer (RFC 6901).
pub(crate) fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

fn pointer_of<'a>(path: impl Iterator<Item = &'a Segment>) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escape(key))),
            Segment::Enum { variant } => pointer.push_str(&format!("/{}", escape(variant))),
            Segment::Unknown => {}
        }
    }
    pointer
}

fn classify(message: &str) -> (&'static str, String) {
    const UNSPECIFIC: &str = "The value is not acceptable here.";
    let kinds: [(&str, &str, &str); 6] = [
        ("unknown variant", "unknown-value", "The value is none of the known ones."),
        ("missing field", "missing-member", "This member is needed."),
        ("duplicate field", "repeated-member", "An object has this member more than once."),
        ("invalid type", "wrong-type", "The value has the wrong type."),
        ("invalid value", "invalid-value", UNSPECIFIC),
        ("invalid length", "invalid-length", "The list or text has the wrong length."),
    ];
    let Some((prefix, code, text)) = kinds.iter().find(|(prefix, ..)| message.starts_with(prefix)) else {
        return ("invalid-value", UNSPECIFIC.to_owned());
    };
    let wants_expected = !matches!(*prefix, "missing field" | "duplicate field");
    match expected(message).filter(|_| wants_expected) {
        Some(expected) => (code, format!("{text} Expected {expected}.")),
        None => (code, (*text).to_owned()),
    }
}

/// What our type expected: the text after the last `, expected `, which is written by the type and not by the sender.
fn expected(message: &str) -> Option<&str> {
    let (_, after) = message.rsplit_once(", expected ")?;
    let text = after.rsplit_once(" at line ").map_or(after, |(text, _)| text);
    (text.len() <= EXPECTED_BYTES_MAX).then_some(text)
}

fn missing_member(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}
