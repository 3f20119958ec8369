//! What the directory may say of patients: nothing, or no more than a reference.
//!
//! Definitions, places and people of the house are open to many who may not know who is a patient here. Anything else
//! about no patient, such as a group of patients, may refer to them and no more: what is said of a patient in another
//! one's words could not be erased with the patient's key.

use serde_json::Value;

use crate::fhir::{Reference, Resource, is_directory_type, references};
use crate::types::FormError;

pub(super) fn check_impersonal(resource: &Resource) -> Result<(), FormError> {
    let contained = |item: &Value| item.get("resourceType").and_then(Value::as_str).is_some_and(of_a_person);
    if let Some(index) = resource.items("contained").iter().position(contained) {
        return Err(personal(format!("/contained/{index}")));
    }
    let mut named = references(resource).into_iter().filter(|(_, text)| names_a_person(text)).map(|(place, _)| place);
    let first = named.next();
    if is_directory_type(resource.resource_type()) {
        return first.map_or(Ok(()), |place| Err(personal(place)));
    }
    if first.is_some() && resource.get("text").is_some() {
        return Err(described("/text"));
    }
    resource.members().iter().try_for_each(|(name, value)| check_bare(value, &format!("/{name}")))
}

fn of_a_person(name: &str) -> bool {
    matches!(name, "Patient" | "RelatedPerson" | "Person")
}

fn names_a_person(text: &str) -> bool {
    match Reference::parse(text) {
        Reference::Resource { resource_type, .. } | Reference::Conditional { resource_type, .. } => {
            of_a_person(&resource_type)
        }
        _ => false,
    }
}

/// A reference to a person says where the person is, and nothing else.
fn check_bare(value: &Value, pointer: &str) -> Result<(), FormError> {
    match value {
        Value::Object(members) => {
            let text = |name: &str| members.get(name).and_then(Value::as_str);
            let is_person = text("reference").is_some_and(names_a_person)
                || members.contains_key("identifier") && text("type").is_some_and(of_a_person);
            let said = ["display", "identifier"].into_iter().find(|name| members.contains_key(*name));
            match said.filter(|_| is_person) {
                Some(name) => Err(described(&format!("{pointer}/{name}"))),
                None => members.iter().try_for_each(|(name, child)| check_bare(child, &format!("{pointer}/{name}"))),
            }
        }
        Value::Array(items) => {
            let places = items.iter().enumerate().map(|(index, item)| (format!("{pointer}/{index}"), item));
            places.into_iter().try_for_each(|(place, item)| check_bare(item, &place))
        }
        _ => Ok(()),
    }
}

fn personal(pointer: String) -> FormError {
    FormError::new("patient-in-directory", pointer, "The directory names no patients.")
}

fn described(pointer: &str) -> FormError {
    let detail = "What is about no patient may refer to patients, but not say their names, numbers or anything in prose: \
                  it could not be erased with them.";
    FormError::new("patient-in-directory", pointer, detail)
}
