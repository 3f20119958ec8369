//! A resource as JSON, with its order and its digits.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::types::FormError;

/// A FHIR R4 resource. It keeps the JSON it came with: elements we don't know, their order, and the digits of numbers.
///
/// `Debug` shows type and id only, since the rest is patient data.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Resource(Map<String, Value>);

/// SHA-256 of a resource's canonical JSON (sorted names, no white space, without what we add to `meta`), in lower-case hex.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resource({}/{})", self.resource_type(), self.text("id").unwrap_or("?"))
    }
}

impl Resource {
    /// Takes JSON as a resource: an object with a known `resourceType` and, if it has one, a well-formed `id`.
    /// `meta.versionId` and `meta.lastUpdated` are dropped, since they are the server's to say.
    ///
    /// # Errors
    /// If the JSON is no such object.
    pub fn parse(json: Value) -> Result<Self, FormError> {
        let Value::Object(mut object) = json else {
            return Err(FormError::new("not-an-object", "", "A FHIR resource is a JSON object."));
        };
        match object.get("resourceType") {
            Some(Value::String(name)) if super::is_resource_type(name) => {}
            Some(Value::String(_)) => {
                return Err(FormError::new(
                    "unknown-resource-type",
                    "/resourceType",
                    "FHIR R4 has no such resource type.",
                ));
            }
            Some(_) => return Err(FormError::wrong_type("/resourceType")),
            None => return Err(FormError::missing("/resourceType")),
        }
        match object.get("id") {
            None => {}
            Some(Value::String(id)) if super::is_fhir_id(id) => {}
            Some(_) => return Err(FormError::new("bad-id", "/id", "An id has 1 to 64 letters, digits, '-' or '.'.")),
        }
        drop_server_meta(&mut object)?;
        Ok(Self(object))
    }

    /// The resource type, such as `Observation`; empty only for a default value.
    pub fn resource_type(&self) -> &str {
        self.text("resourceType").unwrap_or_default()
    }

    /// The id if it is a UUID. Every stored resource has one.
    pub fn id(&self) -> Option<Uuid> {
        self.text("id").and_then(|id| Uuid::parse_str(id).ok())
    }

    /// Gives the resource its id, right behind `resourceType`'s place if it had none.
    pub fn set_id(&mut self, id: Uuid) {
        let text = Value::String(id.to_string());
        if self.0.contains_key("id") {
            self.0.insert("id".to_owned(), text);
        } else {
            let place = self.0.keys().position(|key| key == "resourceType").map_or(0, |index| index + 1);
            self.0.shift_insert(place, "id".to_owned(), text);
        }
    }

    /// A top-level element.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// An element by JSON pointer, such as `/period/start`.
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        let mut steps = pointer.strip_prefix('/')?.split('/');
        let mut value = self.0.get(steps.next()?)?;
        for step in steps {
            value = match value {
                Value::Object(object) => object.get(step)?,
                Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    }

    /// A top-level string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A string by JSON pointer.
    pub fn text_at(&self, pointer: &str) -> Option<&str> {
        self.at(pointer).and_then(Value::as_str)
    }

    /// The items of a top-level array; nothing if the element is absent or no array.
    pub fn items(&self, name: &str) -> &[Value] {
        self.0.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The same resource with one top-level element set or replaced.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    /// The same resource without one top-level element.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.shift_remove(name);
        self
    }

    /// The members, in order.
    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The members, to change them.
    pub fn members_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.0
    }

    /// The JSON.
    pub fn into_json(self) -> Value {
        Value::Object(self.0)
    }

    /// What tells whether two resources say the same.
    pub fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        hash_object(&self.0, &mut hasher);
        Digest(hex::encode(hasher.finalize()))
    }
}

fn drop_server_meta(object: &mut Map<String, Value>) -> Result<(), FormError> {
    let emptied = match object.get_mut("meta") {
        None => false,
        Some(Value::Object(meta)) => {
            meta.shift_remove("versionId");
            meta.shift_remove("lastUpdated");
            meta.is_empty()
        }
        Some(_) => return Err(FormError::wrong_type("/meta")),
    };
    if emptied {
        object.shift_remove("meta");
    }
    Ok(())
}

fn hash_object(object: &Map<String, Value>, hasher: &mut Sha256) {
    let mut names: Vec<&String> = object.keys().collect();
    names.sort_unstable();
    hasher.update(b"{");
    for name in names {
        hash_text(name, hasher);
        hash_value(&object[name], hasher);
    }
    hasher.update(b"}");
}

fn hash_value(value: &Value, hasher: &mut Sha256) {
    match value {
        Value::Null => hasher.update(b"n"),
        Value::Bool(true) => hasher.update(b"t"),
        Value::Bool(false) => hasher.update(b"f"),
        Value::Number(number) => {
            hasher.update(b"#");
            hash_text(&number.to_string(), hasher);
        }
        Value::String(text) => hash_text(text, hasher),
        Value::Array(items) => {
            hasher.update(b"[");
            items.iter().for_each(|item| hash_value(item, hasher));
            hasher.update(b"]");
        }
        Value::Object(object) => hash_object(object, hasher),
    }
}

/// Length first, so that two texts can't run into each other.
fn hash_text(text: &str, hasher: &mut Sha256) {
    hasher.update((text.len() as u64).to_be_bytes());
    hasher.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn digits_and_order_survive() {
        let text = r#"{"resourceType":"Observation","zeta":1.10,"alpha":120.00,"status":"final"}"#;
        let resource = Resource::parse(serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(serde_json::to_string(&resource).unwrap(), text);
    }

    #[test]
    fn digest_ignores_order_and_server_meta_but_not_digits() {
        let of = |json| Resource::parse(json).unwrap().digest();
        let one = of(json!({"resourceType": "Basic", "a": "x", "meta": {"versionId": "3"}}));
        assert_eq!(one, of(json!({"a": "x", "resourceType": "Basic"})));
        let digits = |text: &str| of(serde_json::from_str(text).unwrap());
        assert_ne!(digits(r#"{"resourceType":"Basic","a":1.0}"#), digits(r#"{"resourceType":"Basic","a":1.00}"#));
    }

    #[test]
    fn debug_shows_no_content() {
        let resource = Resource::parse(json!({"resourceType": "Patient", "name": [{"family": "Marker"}]})).unwrap();
        assert!(!format!("{resource:?}").contains("Marker"));
    }

    #[test]
    fn what_is_no_resource_is_refused_by_name() {
        let code = |json| Resource::parse(json).unwrap_err().code;
        assert_eq!(code(json!([])), "not-an-object");
        assert_eq!(code(json!({})), "required-element-missing");
        assert_eq!(code(json!({"resourceType": "Nonsense"})), "unknown-resource-type");
        assert_eq!(code(json!({"resourceType": "Basic", "id": "a b"})), "bad-id");
        assert_eq!(code(json!({"resourceType": "Basic", "meta": 1})), "wrong-type");
    }
}
