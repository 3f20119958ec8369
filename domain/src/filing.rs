//! Which aggregate a FHIR resource is filed in.

use crate::fhir::{is_never_a_patients, is_resource_type, may_be_nobodys, reason_not_kept};

/// The aggregate type that keeps facts about no patient.
pub const OF_NOBODY: &str = "DirectoryEntry";

/// The aggregate type that keeps patients' resources of this FHIR type, or the directory for types that are never a
/// patient's; nothing for types that can't be filed. See [`homes`] for those that may be either.
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
        nobodys if is_never_a_patients(nobodys) => Some(OF_NOBODY),
        other if is_resource_type(other) && reason_not_kept(other).is_none() => Some("ClinicalRecord"),
        _ => None,
    }
}

/// Every aggregate type that may keep a resource of this FHIR type: the one for patients' first. An observation about a
/// place, or a device that no patient has, is in the directory.
pub fn homes(resource_type: &str) -> impl Iterator<Item = &'static str> + use<> {
    let of_patients = aggregate_for(resource_type);
    let of_nobody = Some(OF_NOBODY).filter(|nobody| may_be_nobodys(resource_type) && of_patients != Some(nobody));
    of_patients.into_iter().chain(of_nobody)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AnyEvent;

    #[test]
    fn every_type_has_one_home_or_none() {
        let rows = [
            ("Patient", Some("Patient")),
            ("MedicationRequest", Some("MedicationOrder")),
            ("Practitioner", Some("DirectoryEntry")),
            ("Medication", Some("DirectoryEntry")),
            ("Procedure", Some("ClinicalRecord")),
            ("Bundle", None),
            ("StructureDefinition", Some("DirectoryEntry")),
            ("AuditEvent", None),
            ("Nonsense", None),
        ];
        for (resource_type, home) in rows {
            assert_eq!(aggregate_for(resource_type), home, "{resource_type}");
        }
        // Their Tasks and Flags come from commands of their own; one that is filed is a clinical record like any other.
        let filed = AnyEvent::AGGREGATES.iter().filter(|name| !["EmergencyAccess", "Alert"].contains(name));
        for name in filed {
            let by_name = ["AllergyIntolerance", "MedicationRequest", "Procedure", "Practitioner"];
            let home = |resource_type: &str| aggregate_for(resource_type) == Some(name);
            assert!(home(name) || by_name.iter().any(|resource_type| home(resource_type)), "{name} is never filed");
        }
        assert_eq!(homes("Device").collect::<Vec<_>>(), ["ClinicalRecord", OF_NOBODY]);
        assert_eq!(homes("Observation").collect::<Vec<_>>(), ["Observation", OF_NOBODY]);
        assert_eq!(homes("Group").collect::<Vec<_>>(), [OF_NOBODY]);
        assert_eq!(homes("Immunization").collect::<Vec<_>>(), ["ClinicalRecord"]);
        assert_eq!(homes("Bundle").count(), 0);
    }
}
