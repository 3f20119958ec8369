//! Whose data a resource is.

use uuid::Uuid;

use super::{Reference, Resource, references};

/// Resource types that state facts about no patient.
const DIRECTORY_TYPES: &[&str] = &[
    "ActivityDefinition",
    "CodeSystem",
    "Endpoint",
    "HealthcareService",
    "InsurancePlan",
    "Location",
    "MedicationKnowledge",
    "Organization",
    "OrganizationAffiliation",
    "PlanDefinition",
    "Practitioner",
    "PractitionerRole",
    "Questionnaire",
    "Schedule",
    "Slot",
    "Substance",
    "ValueSet",
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
    DIRECTORY_TYPES.contains(&resource_type)
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
        assert_eq!(of(json!({"resourceType": "Medication"})), None);
    }
}
