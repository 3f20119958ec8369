//! How a resource says that it should not have been filed.
//!
//! Most types have a status with the code `entered-in-error`. The others have no word of their own for it: they are tagged
//! (`meta.tag`) with HL7's reason for a nullification of the same name, `EIE` of v3-ActReason
//! (<https://terminology.hl7.org/CodeSystem-v3-ActReason.html>). Those among them that have a boolean `active` also say
//! `false` there, for readers that mind no tags; alone it would not tell a retraction from mere disuse.

use serde_json::json;

use crate::common::{has_tag, with_tag};
use crate::fhir::Resource;

const ERROR: &str = "entered-in-error";
const TAG_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const TAG_CODE: &str = "EIE";

/// Types whose element `status` may be `entered-in-error` (<https://hl7.org/fhir/R4/resourcelist.html>).
const WITH_STATUS: &[&str] = &[
    "Account",
    "CarePlan",
    "CareTeam",
    "ChargeItem",
    "Claim",
    "ClaimResponse",
    "ClinicalImpression",
    "Communication",
    "CommunicationRequest",
    "Composition",
    "Contract",
    "Coverage",
    "CoverageEligibilityRequest",
    "CoverageEligibilityResponse",
    "DetectedIssue",
    "Device",
    "DeviceRequest",
    "DeviceUseStatement",
    "DiagnosticReport",
    "DocumentManifest",
    "DocumentReference",
    "EnrollmentRequest",
    "EnrollmentResponse",
    "EpisodeOfCare",
    "ExplanationOfBenefit",
    "FamilyMemberHistory",
    "Flag",
    "GuidanceResponse",
    "ImagingStudy",
    "Immunization",
    "ImmunizationEvaluation",
    "Invoice",
    "List",
    "Media",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationStatement",
    "NutritionOrder",
    "PaymentNotice",
    "PaymentReconciliation",
    "Procedure",
    "QuestionnaireResponse",
    "RequestGroup",
    "RiskAssessment",
    "ServiceRequest",
    "Specimen",
    "SupplyDelivery",
    "SupplyRequest",
    "Task",
    "VisionPrescription",
];

/// Types that have no such status, but a boolean `active`.
const WITH_ACTIVE: &[&str] = &["BodyStructure", "Linkage", "Person", "RelatedPerson"];

/// The element that can say `entered-in-error`, if the type has one.
pub(crate) fn status_element(resource_type: &str) -> Option<&'static str> {
    match resource_type {
        // Kept here only as facts about no patient, in the directory.
        "Observation" | "Encounter" | "MedicationRequest" => Some("status"),
        "DeviceMetric" => Some("operationalStatus"),
        "Goal" => Some("lifecycleStatus"),
        other => WITH_STATUS.contains(&other).then_some("status"),
    }
}

/// The resource as it reads once it is retracted.
pub(crate) fn retracted(resource: &Resource) -> Resource {
    match status_element(resource.resource_type()) {
        Some(element) => resource.clone().with(element, json!(ERROR)),
        None if WITH_ACTIVE.contains(&resource.resource_type()) => tagged(resource).with("active", json!(false)),
        None => tagged(resource),
    }
}

/// Whether the resource says that it should not have been filed.
pub(crate) fn is_retracted(resource: &Resource) -> bool {
    match status_element(resource.resource_type()) {
        Some(element) => resource.text(element) == Some(ERROR),
        None => has_tag(resource, TAG_SYSTEM, TAG_CODE),
    }
}

fn tagged(resource: &Resource) -> Resource {
    with_tag(resource, TAG_SYSTEM, TAG_CODE)
}
