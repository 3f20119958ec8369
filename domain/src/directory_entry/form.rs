//! The form of directory entries, and how each type says that it is no longer in use.

use serde_json::{Value, json};

use crate::fhir::{Resource, check_form, is_directory_type};
use crate::types::FormError;

/// How a type names its entries.
#[derive(PartialEq)]
enum Naming {
    /// It has a name and identifiers: an entry needs one of them, or nobody could find it.
    NameOrIdentifier,
    /// It has no name of its own, or other elements take its place.
    Free,
}

/// The rules of form: those of any resource, and what claims and searches lean on.
pub(super) fn check(resource: &Resource) -> Result<(), FormError> {
    if !is_directory_type(resource.resource_type()) {
        return Err(FormError::new("wrong-resource-type", "/resourceType", "This resource type is not filed here."));
    }
    check_form(resource)?;
    check_identifiers(resource)?;
    let named = resource.get("name").is_some() || resource.get("identifier").is_some();
    if naming(resource.resource_type()) == Naming::NameOrIdentifier && !named {
        return Err(FormError::missing("/name"));
    }
    let (element, _) = retirement(resource.resource_type());
    match resource.get(element) {
        Some(value) if element == "active" && !value.is_boolean() => Err(FormError::wrong_type("/active")),
        Some(value) if element == "status" && !value.is_string() => Err(FormError::wrong_type("/status")),
        _ => Ok(()),
    }
}

/// The entry as it reads once it is no longer in use.
pub(super) fn retired(resource: &Resource) -> Resource {
    let (element, value) = retirement(resource.resource_type());
    resource.clone().with(element, value)
}

/// Whether the entry says that it is no longer in use.
pub(super) fn is_retired(resource: &Resource) -> bool {
    let (element, value) = retirement(resource.resource_type());
    resource.get(element) == Some(&value)
}

/// The element and the value with which FHIR R4 says that an entry of this type is no longer in use.
fn retirement(resource_type: &str) -> (&'static str, Value) {
    match resource_type {
        "Location" | "MedicationKnowledge" | "Substance" => ("status", json!("inactive")),
        "Endpoint" => ("status", json!("off")),
        "Slot" => ("status", json!("busy-unavailable")),
        "ActivityDefinition" | "CodeSystem" | "InsurancePlan" | "PlanDefinition" | "Questionnaire" | "ValueSet" => {
            ("status", json!("retired"))
        }
        _ => ("active", json!(false)),
    }
}

fn naming(resource_type: &str) -> Naming {
    match resource_type {
        "HealthcareService" | "InsurancePlan" | "Location" | "Organization" | "Practitioner" => {
            Naming::NameOrIdentifier
        }
        _ => Naming::Free,
    }
}

/// Identifiers are claims, so they have to be readable.
fn check_identifiers(resource: &Resource) -> Result<(), FormError> {
    let Some(identifiers) = resource.get("identifier") else { return Ok(()) };
    let Some(identifiers) = identifiers.as_array() else { return Err(FormError::wrong_type("/identifier")) };
    for (index, identifier) in identifiers.iter().enumerate() {
        let pointer = format!("/identifier/{index}");
        if !identifier.is_object() {
            return Err(FormError::wrong_type(pointer));
        }
        let wrong = |name: &&str| identifier.get(*name).is_some_and(|value| !value.is_string());
        if let Some(name) = ["system", "value"].into_iter().find(wrong) {
            return Err(FormError::wrong_type(format!("{pointer}/{name}")));
        }
    }
    Ok(())
}
