//! Which aggregate a FHIR resource is filed in.

use crate::fhir::{is_directory_type, is_resource_type};

/// Resource types that carry no facts of their own: wrappers, messages, and definitions that belong to a server's
/// configuration (<https://hl7.org/fhir/R4/resourcelist.html>, the conformance and terminology groups).
const NOT_FILED: &[&str] = &[
    "Bundle",
    "CapabilityStatement",
    "CompartmentDefinition",
    "ConceptMap",
    "ExampleScenario",
    "GraphDefinition",
    "ImplementationGuide",
    "MessageDefinition",
    "MessageHeader",
    "NamingSystem",
    "OperationDefinition",
    "OperationOutcome",
    "Parameters",
    "SearchParameter",
    "StructureDefinition",
    "StructureMap",
    "Subscription",
    "TerminologyCapabilities",
    "TestReport",
    "TestScript",
];

/// The aggregate type that keeps resources of this FHIR type; nothing for types that can't be filed.
pub fn aggregate_for(resource_type: &str) -> Option<&'static str> {
    match resource_type {
        "Patient" => Some("Patient"),
        "Encounter" => Some("Encounter"),
        "Observation" => Some("Observation"),
        "Condition" => Some("Condition"),
        "AllergyIntolerance" => Some("Allergy"),
        "MedicationRequest" => Some("MedicationOrder"),
        "Appointment" => Some("Appointment"),
        "Consent" => Some("Consent"),
        directory if is_directory_type(directory) => Some("DirectoryEntry"),
        other if is_resource_type(other) && !NOT_FILED.contains(&other) => Some("ClinicalRecord"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AnyEvent;

    #[test]
    fn every_type_has_one_home_or_none() {
        let homes = [
            ("Patient", Some("Patient")),
            ("MedicationRequest", Some("MedicationOrder")),
            ("Practitioner", Some("DirectoryEntry")),
            ("Medication", Some("DirectoryEntry")),
            ("Procedure", Some("ClinicalRecord")),
            ("Bundle", None),
            ("StructureDefinition", None),
            ("Nonsense", None),
        ];
        for (resource_type, home) in homes {
            assert_eq!(aggregate_for(resource_type), home, "{resource_type}");
        }
        // Their Tasks and Flags come from commands of their own; one that is filed is a clinical record like any other.
        let filed = AnyEvent::AGGREGATES.iter().filter(|name| !["EmergencyAccess", "Alert"].contains(name));
        for name in filed {
            let by_name = ["AllergyIntolerance", "MedicationRequest", "Procedure", "Practitioner"];
            let home = |resource_type: &str| aggregate_for(resource_type) == Some(name);
            assert!(home(name) || by_name.iter().any(|resource_type| home(resource_type)), "{name} is never filed");
        }
        assert!(NOT_FILED.iter().all(|name| is_resource_type(name) && !is_directory_type(name)));
    }
}
