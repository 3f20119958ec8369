//! Tags (`meta.tag`): what a resource says of itself when its type has no element for it.

use serde_json::{Value, json};

use crate::fhir::Resource;
use crate::types::FormError;

/// What a tag is to be added to has the type that it should have.
pub(crate) fn check_tags(resource: &Resource) -> Result<(), FormError> {
    match resource.at("/meta/tag") {
        Some(tags) if !tags.is_array() => Err(FormError::wrong_type("/meta/tag")),
        _ => Ok(()),
    }
}

/// Whether the resource has this tag.
pub(crate) fn has_tag(resource: &Resource, system: &str, code: &str) -> bool {
    let says = |tag: &Value, name: &str, text: &str| tag.get(name).and_then(Value::as_str) == Some(text);
    tags(resource).iter().any(|tag| says(tag, "system", system) && says(tag, "code", code))
}

/// The resource with one tag more.
pub(crate) fn with_tag(resource: &Resource, system: &str, code: &str) -> Resource {
    let mut meta = resource.get("meta").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut all = tags(resource).to_vec();
    all.push(json!({"system": system, "code": code}));
    meta.insert("tag".to_owned(), Value::Array(all));
    resource.clone().with("meta", Value::Object(meta))
}

fn tags(resource: &Resource) -> &[Value] {
    resource.at("/meta/tag").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
