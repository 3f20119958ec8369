//! What any FHIR R4 resource must look like, whatever its type (<https://hl7.org/fhir/R4/json.html>).

use serde_json::{Map, Number, Value};

use super::{FhirDateTime, Reference, Resource};
use crate::types::FormError;

/// All resource types of FHIR R4 (<https://hl7.org/fhir/R4/resourcelist.html>), sorted.
const RESOURCE_TYPES: &[&str] = &[
    "Account",
    "ActivityDefinition",
    "AdverseEvent",
    "AllergyIntolerance",
    "Appointment",
    "AppointmentResponse",
    "AuditEvent",
    "Basic",
    "Binary",
    "BiologicallyDerivedProduct",
    "BodyStructure",
    "Bundle",
    "CapabilityStatement",
    "CarePlan",
    "CareTeam",
    "CatalogEntry",
    "ChargeItem",
    "ChargeItemDefinition",
    "Claim",
    "ClaimResponse",
    "ClinicalImpression",
    "CodeSystem",
    "Communication",
    "CommunicationRequest",
    "CompartmentDefinition",
    "Composition",
    "ConceptMap",
    "Condition",
    "Consent",
    "Contract",
    "Coverage",
    "CoverageEligibilityRequest",
    "CoverageEligibilityResponse",
    "DetectedIssue",
    "Device",
    "DeviceDefinition",
    "DeviceMetric",
    "DeviceRequest",
    "DeviceUseStatement",
    "DiagnosticReport",
    "DocumentManifest",
    "DocumentReference",
    "EffectEvidenceSynthesis",
    "Encounter",
    "Endpoint",
    "EnrollmentRequest",
    "EnrollmentResponse",
    "EpisodeOfCare",
    "EventDefinition",
    "Evidence",
    "EvidenceVariable",
    "ExampleScenario",
    "ExplanationOfBenefit",
    "FamilyMemberHistory",
    "Flag",
    "Goal",
    "GraphDefinition",
    "Group",
    "GuidanceResponse",
    "HealthcareService",
    "ImagingStudy",
    "Immunization",
    "ImmunizationEvaluation",
    "ImmunizationRecommendation",
    "ImplementationGuide",
    "InsurancePlan",
    "Invoice",
    "Library",
    "Linkage",
    "List",
    "Location",
    "Measure",
    "MeasureReport",
    "Media",
    "Medication",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationKnowledge",
    "MedicationRequest",
    "MedicationStatement",
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
    "MessageDefinition",
    "MessageHeader",
    "MolecularSequence",
    "NamingSystem",
    "NutritionOrder",
    "Observation",
    "ObservationDefinition",
    "OperationDefinition",
    "OperationOutcome",
    "Organization",
    "OrganizationAffiliation",
    "Parameters",
    "Patient",
    "PaymentNotice",
    "PaymentReconciliation",
    "Person",
    "PlanDefinition",
    "Practitioner",
    "PractitionerRole",
    "Procedure",
    "Provenance",
    "Questionnaire",
    "QuestionnaireResponse",
    "RelatedPerson",
    "RequestGroup",
    "ResearchDefinition",
    "ResearchElementDefinition",
    "ResearchStudy",
    "ResearchSubject",
    "RiskAssessment",
    "RiskEvidenceSynthesis",
    "Schedule",
    "SearchParameter",
    "ServiceRequest",
    "Slot",
    "Specimen",
    "SpecimenDefinition",
    "StructureDefinition",
    "StructureMap",
    "Subscription",
    "Substance",
    "SubstanceNucleicAcid",
    "SubstancePolymer",
    "SubstanceProtein",
    "SubstanceReferenceInformation",
    "SubstanceSourceMaterial",
    "SubstanceSpecification",
    "SupplyDelivery",
    "SupplyRequest",
    "Task",
    "TerminologyCapabilities",
    "TestReport",
    "TestScript",
    "ValueSet",
    "VerificationResult",
    "VisionPrescription",
];

/// Elements that hold a date or time in every resource type in which they are strings.
const DATE_ELEMENTS: &[&str] = &[
    "birthDate",
    "deceasedDateTime",
    "effectiveDateTime",
    "effectiveInstant",
    "performedDateTime",
    "occurrenceDateTime",
    "onsetDateTime",
    "abatementDateTime",
    "authoredOn",
    "recordedDate",
    "issued",
    "servicedDate",
    "assertedDate",
    "manufactureDate",
    "valueDateTime",
    "lastOccurrence",
];

/// Elements that FHIR allows in every resource.
const COMMON_ELEMENTS: &[&str] =
    &["resourceType", "id", "meta", "implicitRules", "language", "text", "contained", "extension", "modifierExtension"];

/// Those of them that repeat.
const COMMON_REPEATING: &[&str] = &["contained[]", "extension[]", "modifierExtension[]"];

/// The longest string of FHIR (<https://hl7.org/fhir/R4/datatypes.html#string>).
const STRING_BYTES_MAX: usize = 1024 * 1024;
/// The longest name of an element; FHIR's own have up to 40 letters.
const NAME_BYTES_MAX: usize = 128;
/// The most digits, signs and dots of a number: FHIR's have 18 digits.
const NUMBER_CHARS_MAX: usize = 64;

/// Elements whose strings are keys, of read models and of other systems: the most bytes of each. An index takes no more
/// than about 2,700 bytes an entry, so `system` and `code` together stay below that.
const KEY_BYTES_MAX: &[(&str, usize)] =
    &[("code", 256), ("system", 1024), ("unit", 64), ("url", 2048), ("reference", 2048), ("id", 256)];

/// Whether FHIR R4 has a resource type of this name.
pub fn is_resource_type(name: &str) -> bool {
    RESOURCE_TYPES.binary_search(&name).is_ok()
}

/// Checks what FHIR demands of every resource: no null, empty object, empty array or blank string (outside `null`
/// padding of primitive arrays), no control characters, numbers that a computer can compare, well-formed dates where
/// dates belong, well-formed references, contained references that point at something contained.
///
/// # Errors
/// The first fault, in document order.
pub fn check_form(resource: &Resource) -> Result<(), FormError> {
    let contained: Vec<&str> = resource.items("contained").iter().filter_map(|item| item.get("id")?.as_str()).collect();
    check_members(resource.members(), "", &contained)
}

/// Checks a text that goes into the element of this name: in a resource, or by itself, such as a reason.
///
/// # Errors
/// If it is blank, has control characters, or is too long for its element.
pub fn check_text(name: &str, text: &str, pointer: &str) -> Result<(), FormError> {
    if text.trim().is_empty() {
        return Err(empty(pointer));
    }
    check_characters(text, pointer)?;
    let key = KEY_BYTES_MAX.iter().find(|(key, _)| *key == name);
    let bytes_max = key.map_or(STRING_BYTES_MAX, |(_, bytes_max)| *bytes_max);
    if text.len() > bytes_max { Err(too_long(pointer)) } else { Ok(()) }
}

/// Refuses top-level elements that the resource type does not have. `own` lists the type's elements beside the common
/// ones: a trailing `*` stands for a choice of types (`value*`), a trailing `[]` demands an array; `_name` companions are
/// allowed.
///
/// # Errors
/// The first unknown element, or the first repeating one that is no array.
pub fn check_elements(resource: &Resource, own: &[&str]) -> Result<(), FormError> {
    let repeating = COMMON_REPEATING.iter().chain(own).filter_map(|allowed| allowed.strip_suffix("[]"));
    for name in repeating {
        if resource.get(name).is_some_and(|value| !value.is_array()) {
            return Err(FormError::wrong_type(format!("/{name}")));
        }
    }
    let known = |name: &str| {
        COMMON_ELEMENTS.contains(&name)
            || own.iter().any(|allowed| match allowed.strip_suffix('*') {
                Some(prefix) => {
                    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
                }
                None => allowed.strip_suffix("[]").unwrap_or(allowed) == name,
            })
    };
    match resource.members().keys().find(|name| !known(name.strip_prefix('_').unwrap_or(name))) {
        None => Ok(()),
        Some(_) => {
            Err(FormError::new("unknown-element", "", "The resource has an element that its type does not have."))
        }
    }
}

fn check_value(name: &str, value: &Value, pointer: &str, contained: &[&str]) -> Result<(), FormError> {
    match value {
        Value::Null => Err(FormError::new("null-element", pointer, "FHIR JSON has no null outside primitive arrays.")),
        Value::String(text) => check_string(name, text, pointer, contained),
        Value::Object(object) if object.is_empty() => Err(empty(pointer)),
        Value::Object(object) => check_members(object, pointer, contained),
        Value::Array(items) if items.is_empty() => Err(empty(pointer)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .filter(|(_, child)| !child.is_null())
            .try_for_each(|(index, child)| check_value(name, child, &format!("{pointer}/{index}"), contained)),
        Value::Bool(_) | Value::Number(_) if DATE_ELEMENTS.contains(&name) || name == "reference" => {
            Err(FormError::wrong_type(pointer))
        }
        Value::Number(number) => check_number(number, pointer),
        Value::Bool(_) => Ok(()),
    }
}

/// A name that is none is not repeated in the pointer.
fn check_members(members: &Map<String, Value>, pointer: &str, contained: &[&str]) -> Result<(), FormError> {
    members.iter().try_for_each(|(name, child)| {
        check_characters(name, pointer)?;
        if name.len() > NAME_BYTES_MAX {
            return Err(too_long(pointer));
        }
        check_value(name, child, &format!("{pointer}/{name}"), contained)
    })
}

fn check_string(name: &str, text: &str, pointer: &str, contained: &[&str]) -> Result<(), FormError> {
    check_text(name, text, pointer)?;
    let dated = DATE_ELEMENTS.contains(&name)
        || (matches!(name, "start" | "end") && pointer.to_lowercase().contains("period/"));
    if dated && FhirDateTime::parse(text).is_none() {
        return Err(FormError::new("bad-date", pointer, "This is no FHIR date, dateTime or instant."));
    }
    if name == "reference" {
        return check_reference(text, pointer, contained);
    }
    Ok(())
}

fn check_reference(text: &str, pointer: &str, contained: &[&str]) -> Result<(), FormError> {
    match Reference::parse(text) {
        Reference::Malformed => {
            Err(FormError::new("bad-reference", pointer, "This is no FHIR reference that can be followed."))
        }
        Reference::Contained(id) if !id.is_empty() && !contained.contains(&id.as_str()) => {
            Err(FormError::new("unresolved-reference", pointer, "Nothing contained in the resource has this id."))
        }
        _ => Ok(()),
    }
}

/// FHIR: "Strings SHALL NOT contain Unicode character points below 32, except for u0009, u000D and u000A". Postgres takes
/// no NUL in a text, so one would freeze the read models of its patient.
fn check_characters(text: &str, pointer: &str) -> Result<(), FormError> {
    let forbidden = |byte: u8| byte < b' ' && !matches!(byte, b'\t' | b'\r' | b'\n');
    if text.bytes().any(forbidden) {
        return Err(FormError::new("control-character", pointer, "A text must not have control characters."));
    }
    Ok(())
}

/// What is beyond the reach of a double-precision number can't be compared with any limit, and measures nothing.
fn check_number(number: &Number, pointer: &str) -> Result<(), FormError> {
    if number.as_f64().is_some_and(f64::is_finite) && number.to_string().len() <= NUMBER_CHARS_MAX {
        return Ok(());
    }
    Err(FormError::new("number-out-of-range", pointer, "The number is too large, or has too many digits."))
}

fn too_long(pointer: &str) -> FormError {
    FormError::new("too-long", pointer, "The text is longer than its element may be.")
}

fn empty(pointer: &str) -> FormError {
    FormError::new("empty-element", pointer, "An element must not be empty.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn resource_types_are_sorted() {
        assert!(RESOURCE_TYPES.is_sorted());
        assert!(is_resource_type("Observation") && !is_resource_type("observation"));
    }

    #[test]
    fn each_fault_has_its_code() {
        let code = |json| check_form(&Resource::parse(json).unwrap()).map_err(|error| error.code);
        let with = |value: Value| json!({"resourceType": "Basic", "x": value});
        assert_eq!(code(with(json!("fine"))), Ok(()));
        assert_eq!(code(with(json!(null))), Err("null-element"));
        assert_eq!(code(with(json!({}))), Err("empty-element"));
        assert_eq!(code(with(json!([]))), Err("empty-element"));
        assert_eq!(code(with(json!(" "))), Err("empty-element"));
        assert_eq!(code(with(json!({"birthDate": "1.2.2000"}))), Err("bad-date"));
        assert_eq!(code(with(json!({"birthDate": 2000}))), Err("wrong-type"));
        assert_eq!(code(with(json!({"reference": "nowhere"}))), Err("bad-reference"));
        assert_eq!(code(with(json!({"reference": "#nothing"}))), Err("unresolved-reference"));
        assert_eq!(code(json!({"resourceType": "Basic", "period": {"start": "yesterday"}})), Err("bad-date"));
    }

    #[test]
    fn texts_have_no_control_characters() {
        let code = |json| check_form(&Resource::parse(json).unwrap()).map_err(|error| (error.code, error.pointer));
        let at = |pointer: &str| Err(("control-character", pointer.to_owned()));
        assert_eq!(code(json!({"resourceType": "Basic", "x": "a\tb\r\nc\u{7f}\u{85}"})), Ok(()));
        for bad in ["\0", "7\u{1}", "\u{1f}x"] {
            assert_eq!(code(json!({"resourceType": "Basic", "x": [{"code": bad}]})), at("/x/0/code"), "{bad:?}");
            assert_eq!(code(json!({"resourceType": "Basic", "x": {bad: 1}})), at("/x"), "{bad:?}");
            assert_eq!(code(json!({"resourceType": "Basic", bad: 1})), at(""), "{bad:?}");
            assert!(check_text("reason", bad, "/reason").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn texts_names_and_numbers_have_their_bounds() {
        let code = |value: Value| {
            check_form(&Resource::parse(json!({"resourceType": "Basic", "x": value})).unwrap()).map_err(|e| e.code)
        };
        for (name, bytes_max) in
            [("code", 256), ("system", 1024), ("unit", 64), ("url", 2048), ("id", 256), ("display", STRING_BYTES_MAX)]
        {
            assert_eq!(code(json!({name: "x".repeat(bytes_max)})), Ok(()), "{name}");
            assert_eq!(code(json!({name: "x".repeat(bytes_max + 1)})), Err("too-long"), "{name}");
        }
        assert_eq!(code(json!({"x".repeat(NAME_BYTES_MAX + 1): true})), Err("too-long"));
        let number = |text: &str| code(serde_json::from_str(text).unwrap());
        for good in ["-0.00", "120.00", "1e300", "1.7976931348623157e308", "123456789012345678.123456789012345678"] {
            assert_eq!(number(good), Ok(()), "{good}");
        }
        for bad in ["1e400", "-1E309", &"9".repeat(NUMBER_CHARS_MAX + 1)] {
            assert_eq!(number(bad), Err("number-out-of-range"), "{bad}");
        }
    }

    #[test]
    fn unknown_elements_are_refused() {
        let resource = |name: &str| Resource::parse(json!({"resourceType": "Observation", name: "x"})).unwrap();
        let check = |name: &str| check_elements(&resource(name), &["status", "value*"]).is_ok();
        assert!(check("status") && check("_status") && check("valueString") && check("language"));
        assert!(!check("value") && !check("valuation") && !check("stats"));
    }

    #[test]
    fn repeating_elements_are_arrays() {
        let code = |name: &str, value: Value| {
            let resource = Resource::parse(json!({"resourceType": "Observation", name: value})).unwrap();
            check_elements(&resource, &["category[]", "status"]).map_err(|error| error.code)
        };
        assert_eq!(code("category", json!(["x"])), Ok(()));
        assert_eq!(code("category", json!("x")), Err("wrong-type"));
        assert_eq!(code("extension", json!({"url": "x"})), Err("wrong-type"));
        assert_eq!(code("category[]", json!(["x"])), Err("unknown-element"));
    }
}
