//! References from one resource to another.

use serde_json::Value;
use uuid::Uuid;

use super::Resource;

/// What a `reference` string says (<https://hl7.org/fhir/R4/references.html>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `Patient/<uuid>`, with or without `/_history/<version>`.
    Resource { resource_type: String, id: Uuid },
    /// `urn:uuid:<uuid>`: another entry of the same bundle.
    Entry(Uuid),
    /// `Practitioner?identifier=system|value`: whoever bears this identifier.
    Conditional { resource_type: String, system: String, value: String },
    /// `#id`: a resource contained in this one; empty for the container itself.
    Contained(String),
    /// An absolute URL: somebody else's resource, kept as it is.
    External,
    /// None of these.
    Malformed,
}

impl Reference {
    /// Reads a reference string.
    pub fn parse(text: &str) -> Self {
        if let Some(id) = text.strip_prefix('#') {
            return Self::Contained(id.to_owned());
        }
        if let Some(id) = text.strip_prefix("urn:uuid:") {
            return Uuid::parse_str(id).map_or(Self::Malformed, Self::Entry);
        }
        if text.starts_with("http://") || text.starts_with("https://") || text.starts_with("urn:") {
            return Self::External;
        }
        conditional(text).or_else(|| relative(text)).unwrap_or(Self::Malformed)
    }
}

fn conditional(text: &str) -> Option<Reference> {
    let (resource_type, query) = text.split_once('?')?;
    let (system, value) = identifier_of(query)?;
    let resource_type = resource_type.to_owned();
    super::is_resource_type(&resource_type).then_some(Reference::Conditional { resource_type, system, value })
}

fn relative(text: &str) -> Option<Reference> {
    let (resource_type, id) = without_version(text).0.split_once('/')?;
    let id = Uuid::parse_str(id).ok().filter(|_| super::is_fhir_id(id))?;
    super::is_resource_type(resource_type).then(|| Reference::Resource { resource_type: resource_type.to_owned(), id })
}

/// A reference without its version, and the version: `Patient/1` and `3` of `Patient/1/_history/3`.
pub fn without_version(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once("/_history/") {
        Some((name, version)) if super::is_fhir_id(version) => (name, Some(version)),
        _ => (text, None),
    }
}

/// System and value of the search `identifier=system|value`, which may stand behind a `?`. Any further parameter makes it
/// another search, which is none of ours. An identifier without a system, `|value`, has an empty one.
///
/// Two layers are taken off: the URL's (`%7C`), and the search's own (`\|`, <https://hl7.org/fhir/R4/search.html#escaping>).
/// Whoever encodes nothing, as many do, means a `+` by a `+`; whoever encodes the bar means a space.
pub fn identifier_of(query: &str) -> Option<(String, String)> {
    let mut parameters = query.strip_prefix('?').unwrap_or(query).split('&').filter(|parameter| !parameter.is_empty());
    let (token, None) = (parameters.next()?.strip_prefix("identifier=")?, parameters.next()) else { return None };
    let token = if token.contains('|') { percent_decoded(token) } else { percent_decoded(&token.replace('+', " ")) };
    let (mut system, mut value) = (None, String::new());
    let mut letters = token.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => value.push(letters.next_if(|next| ['\\', '|', ',', '$'].contains(next)).unwrap_or(letter)),
            '|' if system.is_none() => system = Some(std::mem::take(&mut value)),
            _ => value.push(letter),
        }
    }
    (!value.is_empty()).then_some((system?, value))
}

/// Text as it was before it went into a URL; what is not encoded stays.
fn percent_decoded(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|code| *first == b'%' && code.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Every `reference` string of a resource, contained resources included, with its JSON pointer.
pub fn references(resource: &Resource) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    for (name, value) in resource.members() {
        collect(value, &format!("/{name}"), &mut found);
    }
    found
}

fn collect<'a>(value: &'a Value, pointer: &str, found: &mut Vec<(String, &'a str)>) {
    match value {
        Value::Object(object) => {
            for (name, child) in object {
                match child {
                    Value::String(text) if name == "reference" => found.push((format!("{pointer}/reference"), text)),
                    _ => collect(child, &format!("{pointer}/{name}"), found),
                }
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter().enumerate() {
                collect(child, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// Replaces `reference` strings: `replace` answers the new text, or nothing to leave it.
pub fn rewrite_references(resource: &mut Resource, replace: &mut dyn FnMut(&str) -> Option<String>) {
    for (_, value) in resource.members_mut() {
        rewrite(value, replace);
    }
}

fn rewrite(value: &mut Value, replace: &mut dyn FnMut(&str) -> Option<String>) {
    match value {
        Value::Object(object) => {
            for (name, child) in object {
                match child {
                    Value::String(text) if name == "reference" => {
                        if let Some(new) = replace(text) {
                            *text = new;
                        }
                    }
                    _ => rewrite(child, replace),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|child| rewrite(child, replace)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "057aa36e-b892-9964-75b9-ffb46b097e34";

    #[test]
    fn all_kinds_are_told_apart() {
        let id = Uuid::parse_str(ID).unwrap();
        assert_eq!(Reference::parse(&format!("urn:uuid:{ID}")), Reference::Entry(id));
        assert_eq!(
            Reference::parse(&format!("Patient/{ID}/_history/2")),
            Reference::Resource { resource_type: "Patient".to_owned(), id }
        );
        assert_eq!(
            Reference::parse("Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|99"),
            Reference::Conditional {
                resource_type: "Practitioner".to_owned(),
                system: "http://hl7.org/fhir/sid/us-npi".to_owned(),
                value: "99".to_owned()
            }
        );
        assert_eq!(Reference::parse("#x"), Reference::Contained("x".to_owned()));
        assert_eq!(Reference::parse("https://other.example/Patient/1"), Reference::External);
        for bad in [
            "",
            "Patient",
            "Patient/1",
            "Nonsense/057aa36e",
            "urn:uuid:1",
            "Patient?name=x",
            "Patient?identifier=a|b&x=1",
        ] {
            assert_eq!(Reference::parse(bad), Reference::Malformed, "{bad}");
        }
    }

    #[test]
    fn an_identifier_is_read_through_both_of_its_encodings() {
        for (query, system, value) in [
            ("identifier=urn:x|A+B 1", "urn:x", "A+B 1"),
            ("?identifier=urn%3Ax%7CA+B%2B1", "urn:x", "A B+1"),
            ("identifier=http%3A%2F%2Fx%2Fy%7C9%269&", "http://x/y", "9&9"),
            (r"identifier=urn:x|A\|B\,C\$D\\E", "urn:x", r"A|B,C$D\E"),
            (r"identifier=urn:x|A|B\F", "urn:x", r"A|B\F"),
            (r"identifier=urn:a\|b|1", "urn:a|b", "1"),
            ("identifier=|12 %", "", "12 %"),
            ("identifier=urn:x|%E4%B8%AD", "urn:x", "中"),
        ] {
            assert_eq!(identifier_of(query), Some((system.to_owned(), value.to_owned())), "{query}");
        }
        for bad in [
            "identifier=9",
            "identifier=urn:x|",
            "identifier=a|b&active=true",
            "name=x",
            "",
            "identifier:of-type=a|b|c",
        ] {
            assert_eq!(identifier_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_version_is_told_from_the_name() {
        assert_eq!(without_version("Patient/1/_history/3"), ("Patient/1", Some("3")));
        for text in ["Patient/1", "Patient/1/_history", "Patient/1/_history/", "Patient/1/_history/a b"] {
            assert_eq!(without_version(text), (text, None));
        }
    }

    #[test]
    fn references_are_found_and_rewritten_at_any_depth() {
        let mut resource = Resource::parse(json!({
            "resourceType": "Claim",
            "patient": {"reference": "a"},
            "item": [{"encounter": [{"reference": "b"}]}]
        }))
        .unwrap();
        let found: Vec<String> = references(&resource).into_iter().map(|(pointer, _)| pointer).collect();
        assert_eq!(found, ["/patient/reference", "/item/0/encounter/0/reference"]);
        rewrite_references(&mut resource, &mut |text| (text == "b").then(|| "c".to_owned()));
        assert_eq!(resource.text_at("/item/0/encounter/0/reference"), Some("c"));
        assert_eq!(resource.text_at("/patient/reference"), Some("a"));
    }
}
