//! The form of directory entries, and how each type says that it is no longer in use.

use serde_json::{Value, json};

use super::impersonal::check_impersonal;
use crate::clinical_record::{is_retracted, retracted, status_element};
use crate::common::{check_tags, has_tag, with_tag};
use crate::fhir::{Homeless, Resource, Whose, check_form, is_directory_type, may_be_nobodys, whose};
use crate::types::FormError;

const TAG_SYSTEM: &str = "http://hl7.org/fhir/publication-status";
const TAG_CODE: &str = "retired";

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
    if !may_be_nobodys(resource.resource_type()) {
        return Err(FormError::new("wrong-resource-type", "/resourceType", "This resource type is not filed here."));
    }
    check_form(resource)?;
    check_nobodys(resource)?;
    check_identifiers(resource)?;
    let named = resource.get("name").is_some() || resource.get("identifier").is_some();
    if naming(resource.resource_type()) == Naming::NameOrIdentifier && !named {
        return Err(FormError::missing("/name"));
    }
    check_impersonal(resource)?;
    check_retirable(resource)
}

/// It names no patient as its own. Whose the things are that it is linked to is looked up before.
fn check_nobodys(resource: &Resource) -> Result<(), FormError> {
    match whose(resource) {
        Whose::Patient(_) => Err(FormError::new("patient-in-directory", "", "The resource is a patient's.")),
        Whose::Unknown(homeless @ (Homeless::Unclear | Homeless::Several)) => Err(homeless.into()),
        Whose::Unknown(_) => Err(Homeless::Unnamed.into()),
        Whose::Nobodys | Whose::Linked(_) | Whose::About(_) => Ok(()),
    }
}

/// What a retirement would change has the type that it should have.
fn check_retirable(resource: &Resource) -> Result<(), FormError> {
    if is_taken_back(resource.resource_type()) {
        let status = status_element(resource.resource_type()).filter(|element| resource.get(element).is_some());
        let text = |element| resource.text(element).is_some();
        return match status {
            Some(element) if !text(element) => Err(FormError::wrong_type(format!("/{element}"))),
            _ => check_tags(resource),
        };
    }
    let Some((element, value)) = retirement(resource.resource_type()) else { return check_tags(resource) };
    match resource.get(element) {
        Some(standing) if standing.is_boolean() != value.is_boolean() || standing.is_string() != value.is_string() => {
            Err(FormError::wrong_type(format!("/{element}")))
        }
        _ => Ok(()),
    }
}

/// The entry as it reads once it is no longer in use.
pub(super) fn retired(resource: &Resource) -> Resource {
    if is_taken_back(resource.resource_type()) {
        return retracted(resource);
    }
    match retirement(resource.resource_type()) {
        Some((element, value)) => resource.clone().with(element, value),
        None => with_tag(resource, TAG_SYSTEM, TAG_CODE),
    }
}

/// Whether the entry says that it is no longer in use.
pub(super) fn is_retired(resource: &Resource) -> bool {
    if is_taken_back(resource.resource_type()) {
        return is_retracted(resource);
    }
    match retirement(resource.resource_type()) {
        Some((element, value)) => resource.get(element) == Some(&value),
        None => has_tag(resource, TAG_SYSTEM, TAG_CODE),
    }
}

/// Whether a type has nothing that goes out of use: what states a fact can only be taken back, as a patient's is.
fn is_taken_back(resource_type: &str) -> bool {
    !is_directory_type(resource_type) && resource_type != "Group"
}

/// The element and the value with which FHIR R4 says that an entry of this type is no longer in use; nothing for types
/// that have no such element and are tagged instead.
fn retirement(resource_type: &str) -> Option<(&'static str, Value)> {
    Some(match resource_type {
        "Location" | "Medication" | "MedicationKnowledge" | "Substance" => ("status", json!("inactive")),
        "Endpoint" => ("status", json!("off")),
        "Slot" => ("status", json!("busy-unavailable")),
        "ResearchStudy" => ("status", json!("withdrawn")),
        "ActivityDefinition"
        | "CapabilityStatement"
        | "CatalogEntry"
        | "ChargeItemDefinition"
        | "CodeSystem"
        | "CompartmentDefinition"
        | "ConceptMap"
        | "EffectEvidenceSynthesis"
        | "EventDefinition"
        | "Evidence"
        | "EvidenceVariable"
        | "ExampleScenario"
        | "GraphDefinition"
        | "ImplementationGuide"
        | "InsurancePlan"
        | "Library"
        | "Measure"
        | "MessageDefinition"
        | "NamingSystem"
        | "OperationDefinition"
        | "PlanDefinition"
        | "Questionnaire"
        | "ResearchDefinition"
        | "ResearchElementDefinition"
        | "RiskEvidenceSynthesis"
        | "SearchParameter"
        | "StructureDefinition"
        | "StructureMap"
        | "TerminologyCapabilities"
        | "ValueSet" => ("status", json!("retired")),
        "DeviceDefinition" | "ObservationDefinition" | "SpecimenDefinition" => return None,
        // Substance itself is above; what remains are its details, and products and theirs.
        details if details.starts_with("MedicinalProduct") || details.starts_with("Substance") => return None,
        _ => ("active", json!(false)),
    })
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
