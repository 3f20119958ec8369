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
    let (system, value) = query.strip_prefix("identifier=")?.split_once('|')?;
    let plain = super::is_resource_type(resource_type) && !value.is_empty() && !query.contains('&');
    plain.then(|| Reference::Conditional {
        resource_type: resource_type.to_owned(),
        system: system.to_owned(),
        value: value.to_owned(),
    })
}

fn relative(text: &str) -> Option<Reference> {
    let (resource_type, rest) = text.split_once('/')?;
    let id = rest.split_once("/_history/").map_or(rest, |(id, _)| id);
    let id = Uuid::parse_str(id).ok()?;
    super::is_resource_type(resource_type).then(|| Reference::Resource { resource_type: resource_type.to_owned(), id })
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
