//! Whose data a resource is.

use uuid::Uuid;

use super::{Reference, Resource, references};

/// Resource types that state facts about no patient: in FHIR R4 they have no element for one
/// (<https://hl7.org/fhir/R4/compartmentdefinition-patient.html>), or, as Group, Schedule and Slot, exist without.
const DIRECTORY_TYPES: &[&str] = &[
    "ActivityDefinition",
    "CatalogEntry",
    "ChargeItemDefinition",
    "CodeSystem",
    "DeviceDefinition",
    "EffectEvidenceSynthesis",
    "Endpoint",
    "EventDefinition",
    "Evidence",
    "EvidenceVariable",
    "Group",
    "HealthcareService",
    "InsurancePlan",
    "Library",
    "Location",
    "Measure",
    "Medication",
    "MedicationKnowledge",
    "MedicinalProduct",
    "MedicinalProductAuthorization",
    "MedicinalProductContraindication",
    "MedicinalProductIndication",
    "MedicinalProductIngredient",
    "MedicinalProductInteraction",
    "MedicinalProductManufactured",
    "MedicinalProductPackaged",
    "MedicinalProductPharmaceutical",
    "MedicinalProductUndesirableEffect",
    "ObservationDefinition",
    "Organization",
    "OrganizationAffiliation",
    "PlanDefinition",
    "Practitioner",
    "PractitionerRole",
    "Questionnaire",
    "ResearchDefinition",
    "ResearchElementDefinition",
    "ResearchStudy",
    "RiskEvidenceSynthesis",
    "Schedule",
    "Slot",
    "SpecimenDefinition",
    "Substance",
    "SubstanceNucleicAcid",
    "SubstancePolymer",
    "SubstanceProtein",
    "SubstanceReferenceInformation",
    "SubstanceSourceMaterial",
    "SubstanceSpecification",
    "ValueSet",
];

/// Those of them that an identifier leads to, as long as only one of them bears it. Others are known by a canonical URL and a version, or
/// travel as copies with whatever mentions them.
const FOUND_BY_IDENTIFIER: &[&str] = &[
    "Endpoint",
    "HealthcareService",
    "InsurancePlan",
    "Location",
    "Organization",
    "OrganizationAffiliation",
    "Practitioner",
    "PractitionerRole",
    "Schedule",
    "Slot",
];

/// Elements that name the patient directly, in the order in which they are looked at.
const PATIENT_ELEMENTS: &[&str] = &[
    "/subject/reference",
    "/patient/reference",
    "/beneficiary/reference",
    "/individual/reference",
    "/for/reference",
    "/sourceReference/reference",
];

/// Whether a resource of this type is a directory entry: about no patient.
pub fn is_directory_type(resource_type: &str) -> bool {
    DIRECTORY_TYPES.binary_search(&resource_type).is_ok()
}

/// Whether directory entries of this type are looked up by their identifiers.
pub fn is_found_by_identifier(resource_type: &str) -> bool {
    FOUND_BY_IDENTIFIER.contains(&resource_type)
}

/// The patient that a resource is about: a Patient is its own; else the element that names the subject; else the one and
/// only patient that any reference names. Nothing if there is none, or if several are named and none is the subject.
/// References must have been resolved to `Patient/<uuid>` before.
pub fn patient_of(resource: &Resource) -> Option<Uuid> {
    if resource.resource_type() == "Patient" {
        return resource.id();
    }
    let direct = PATIENT_ELEMENTS.iter().filter_map(|pointer| resource.text_at(pointer)).find_map(patient_id);
    direct.or_else(|| only_patient(resource))
}

fn only_patient(resource: &Resource) -> Option<Uuid> {
    let mut patients = references(resource).into_iter().filter_map(|(_, text)| patient_id(text));
    let first = patients.next()?;
    patients.all(|other| other == first).then_some(first)
}

fn patient_id(text: &str) -> Option<Uuid> {
    match Reference::parse(text) {
        Reference::Resource { resource_type, id } if resource_type == "Patient" => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::is_resource_type;
    use super::*;

    const ONE: &str = "Patient/057aa36e-b892-9964-75b9-ffb46b097e34";
    const TWO: &str = "Patient/0696ac49-3128-87d3-7344-04510aa4f324";

    #[test]
    fn the_subject_goes_before_other_patients() {
        let of = |json| patient_of(&Resource::parse(json).unwrap()).map(|id| format!("Patient/{id}"));
        assert_eq!(
            of(json!({"resourceType": "Claim", "patient": {"reference": ONE}, "x": {"reference": TWO}})).as_deref(),
            Some(ONE)
        );
        assert_eq!(of(json!({"resourceType": "Provenance", "target": [{"reference": TWO}]})).as_deref(), Some(TWO));
        assert_eq!(of(json!({"resourceType": "Provenance", "target": [{"reference": TWO}, {"reference": ONE}]})), None);
        assert_eq!(of(json!({"resourceType": "Task"})), None);
    }

    #[test]
    fn directory_types_are_sorted_types_of_fhir() {
        assert!(DIRECTORY_TYPES.is_sorted());
        assert!(DIRECTORY_TYPES.iter().all(|name| is_resource_type(name)));
        assert!(FOUND_BY_IDENTIFIER.iter().all(|name| is_directory_type(name)));
        assert!(!is_directory_type("Patient") && !is_directory_type("Device") && is_directory_type("Medication"));
    }
}
