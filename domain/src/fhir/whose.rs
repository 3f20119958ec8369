//! For each resource type: what says whose data a resource is.
//!
//! One element names whom or what a resource is about (<https://hl7.org/fhir/R4/compartmentdefinition-patient.html> and
//! the types' own pages); some types are about nobody by themselves and belong to whatever they speak of. Who wrote,
//! performed, asked for or paid for something never makes it theirs.

/// What a type's resources are if nothing in them says whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// A fact about no patient.
    Nobodys,
    /// Refused: it is somebody's, and it can't be told whose.
    Refused,
    /// Refused, whatever it says: the reason, as a sentence.
    NotKept(&'static str),
}

/// How to tell whose a resource is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// The element that names whom or what it is about. If it is there it decides.
    pub named: &'static str,
    /// Elements that lead to what it belongs to: it is the patient's whose that is.
    pub linked: &'static [&'static str],
    pub otherwise: Otherwise,
    /// Definitions, places and people of the house: they name no patient, and whoever may read anything may read them.
    pub directory: bool,
}

const NONE: &[&str] = &[];

/// What the element names decides; without it, nobody knows.
const fn of(named: &'static str) -> Rule {
    Rule { named, linked: NONE, otherwise: Otherwise::Refused, directory: false }
}

/// The same, but what it belongs to may tell, too.
const fn via(named: &'static str, linked: &'static [&'static str]) -> Rule {
    Rule { named, linked, otherwise: Otherwise::Refused, directory: false }
}

/// May be about nobody.
const fn free(named: &'static str, linked: &'static [&'static str]) -> Rule {
    Rule { named, linked, otherwise: Otherwise::Nobodys, directory: false }
}

const fn not_kept(reason: &'static str) -> Rule {
    Rule { named: "", linked: NONE, otherwise: Otherwise::NotKept(reason), directory: false }
}

const DIRECTORY: Rule = Rule { named: "", linked: NONE, otherwise: Otherwise::Nobodys, directory: true };

const ENVELOPE: &str = "This is an envelope and no record: send what is in it.";
const ANSWER: &str = "This is an answer of a server and no record.";
const ORDER_TO_SERVER: &str = "This asks a server for notifications, which this one would not send.";
/// One from elsewhere would be evidence that nobody could tell from ours, under an address where nobody could read it.
const ACCESS_LOG: &str =
    "AuditEvents are those of the access log, which is written here only: they stay where they are from.";
const TEST: &str = "Tests of servers are no facts of a hospital.";

/// The decision for every type of FHIR R4, sorted by type.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("Account", of("subject")),
    ("ActivityDefinition", DIRECTORY),
    ("AdverseEvent", of("subject")),
    ("AllergyIntolerance", of("patient")),
    // Its participants: see `named_by`.
    ("Appointment", of("participant.actor")),
    // Who answers is not whom the appointment is about.
    ("AppointmentResponse", via("", &["appointment"])),
    ("AuditEvent", not_kept(ACCESS_LOG)),
    ("Basic", free("subject", NONE)),
    ("Binary", via("", &["securityContext"])),
    ("BiologicallyDerivedProduct", free("collection.source", NONE)),
    ("BodyStructure", of("patient")),
    ("Bundle", not_kept(ENVELOPE)),
    ("CapabilityStatement", DIRECTORY),
    ("CarePlan", of("subject")),
    ("CareTeam", free("subject", &["encounter"])),
    ("CatalogEntry", DIRECTORY),
    ("ChargeItem", of("subject")),
    ("ChargeItemDefinition", DIRECTORY),
    ("Claim", of("patient")),
    ("ClaimResponse", of("patient")),
    ("ClinicalImpression", of("subject")),
    ("CodeSystem", DIRECTORY),
    ("Communication", via("subject", &["encounter", "about", "basedOn", "partOf", "inResponseTo"])),
    ("CommunicationRequest", via("subject", &["encounter", "about", "basedOn", "replaces"])),
    ("CompartmentDefinition", DIRECTORY),
    ("Composition", via("subject", &["encounter"])),
    ("ConceptMap", DIRECTORY),
    ("Condition", of("subject")),
    ("Consent", of("patient")),
    ("Contract", free("subject", NONE)),
    ("Coverage", of("beneficiary")),
    ("CoverageEligibilityRequest", of("patient")),
    ("CoverageEligibilityResponse", of("patient")),
    ("DetectedIssue", via("patient", &["implicated"])),
    ("Device", free("patient", NONE)),
    ("DeviceDefinition", DIRECTORY),
    ("DeviceMetric", free("", &["source", "parent"])),
    ("DeviceRequest", of("subject")),
    ("DeviceUseStatement", of("subject")),
    ("DiagnosticReport", of("subject")),
    ("DocumentManifest", via("subject", &["content"])),
    ("DocumentReference", via("subject", &["context.encounter"])),
    ("EffectEvidenceSynthesis", DIRECTORY),
    ("Encounter", of("subject")),
    ("Endpoint", DIRECTORY),
    ("EnrollmentRequest", of("candidate")),
    ("EnrollmentResponse", via("", &["request"])),
    ("EpisodeOfCare", of("patient")),
    ("EventDefinition", DIRECTORY),
    ("Evidence", DIRECTORY),
    ("EvidenceVariable", DIRECTORY),
    ("ExampleScenario", DIRECTORY),
    ("ExplanationOfBenefit", of("patient")),
    ("FamilyMemberHistory", of("patient")),
    ("Flag", of("subject")),
    ("Goal", of("subject")),
    ("GraphDefinition", DIRECTORY),
    // Its members are people of whom none owns the group.
    ("Group", free("", NONE)),
    ("GuidanceResponse", via("subject", &["encounter"])),
    ("HealthcareService", DIRECTORY),
    ("ImagingStudy", of("subject")),
    ("Immunization", of("patient")),
    ("ImmunizationEvaluation", of("patient")),
    ("ImmunizationRecommendation", of("patient")),
    ("ImplementationGuide", DIRECTORY),
    ("InsurancePlan", DIRECTORY),
    ("Invoice", via("subject", &["account"])),
    ("Library", DIRECTORY),
    ("Linkage", free("", &["item.resource"])),
    ("List", free("subject", &["encounter", "entry.item"])),
    ("Location", DIRECTORY),
    ("Measure", DIRECTORY),
    ("MeasureReport", free("subject", NONE)),
    ("Media", via("subject", &["encounter", "basedOn", "partOf"])),
    ("Medication", DIRECTORY),
    ("MedicationAdministration", of("subject")),
    ("MedicationDispense", via("subject", &["context", "authorizingPrescription"])),
    ("MedicationKnowledge", DIRECTORY),
    ("MedicationRequest", of("subject")),
    ("MedicationStatement", of("subject")),
    ("MedicinalProduct", DIRECTORY),
    ("MedicinalProductAuthorization", DIRECTORY),
    ("MedicinalProductContraindication", DIRECTORY),
    ("MedicinalProductIndication", DIRECTORY),
    ("MedicinalProductIngredient", DIRECTORY),
    ("MedicinalProductInteraction", DIRECTORY),
    ("MedicinalProductManufactured", DIRECTORY),
    ("MedicinalProductPackaged", DIRECTORY),
    ("MedicinalProductPharmaceutical", DIRECTORY),
    ("MedicinalProductUndesirableEffect", DIRECTORY),
    ("MessageDefinition", DIRECTORY),
    ("MessageHeader", not_kept(ENVELOPE)),
    ("MolecularSequence", via("patient", &["specimen"])),
    ("NamingSystem", DIRECTORY),
    ("NutritionOrder", of("patient")),
    ("Observation", of("subject")),
    ("ObservationDefinition", DIRECTORY),
    ("OperationDefinition", DIRECTORY),
    ("OperationOutcome", not_kept(ANSWER)),
    ("Organization", DIRECTORY),
    ("OrganizationAffiliation", DIRECTORY),
    ("Parameters", not_kept(ENVELOPE)),
    // Its own: see `named_by`.
    ("Patient", of("")),
    ("PaymentNotice", free("", &["request", "response"])),
    // It settles the claims of many.
    ("PaymentReconciliation", free("", NONE)),
    ("Person", via("", &["link.target"])),
    ("PlanDefinition", DIRECTORY),
    ("Practitioner", DIRECTORY),
    ("PractitionerRole", DIRECTORY),
    ("Procedure", of("subject")),
    ("Provenance", free("", &["target"])),
    ("Questionnaire", DIRECTORY),
    ("QuestionnaireResponse", via("subject", &["encounter", "basedOn", "partOf"])),
    ("RelatedPerson", of("patient")),
    ("RequestGroup", via("subject", &["encounter", "basedOn"])),
    ("ResearchDefinition", DIRECTORY),
    ("ResearchElementDefinition", DIRECTORY),
    ("ResearchStudy", DIRECTORY),
    ("ResearchSubject", of("individual")),
    ("RiskAssessment", of("subject")),
    ("RiskEvidenceSynthesis", DIRECTORY),
    ("Schedule", DIRECTORY),
    ("SearchParameter", DIRECTORY),
    ("ServiceRequest", of("subject")),
    ("Slot", DIRECTORY),
    ("Specimen", via("subject", &["parent", "request"])),
    ("SpecimenDefinition", DIRECTORY),
    ("StructureDefinition", DIRECTORY),
    ("StructureMap", DIRECTORY),
    ("Subscription", not_kept(ORDER_TO_SERVER)),
    ("Substance", DIRECTORY),
    ("SubstanceNucleicAcid", DIRECTORY),
    ("SubstancePolymer", DIRECTORY),
    ("SubstanceProtein", DIRECTORY),
    ("SubstanceReferenceInformation", DIRECTORY),
    ("SubstanceSourceMaterial", DIRECTORY),
    ("SubstanceSpecification", DIRECTORY),
    ("SupplyDelivery", free("patient", &["basedOn", "partOf"])),
    ("SupplyRequest", free("deliverTo", NONE)),
    ("Task", via("for", &["focus", "encounter", "basedOn", "partOf"])),
    ("TerminologyCapabilities", DIRECTORY),
    ("TestReport", not_kept(TEST)),
    ("TestScript", not_kept(TEST)),
    ("ValueSet", DIRECTORY),
    ("VerificationResult", free("", &["target"])),
    ("VisionPrescription", of("patient")),
];

/// The rule of a type; nothing for a name that is no type of FHIR R4.
pub(super) fn rule(resource_type: &str) -> Option<Rule> {
    RULES.binary_search_by_key(&resource_type, |(name, _)| name).ok().map(|index| RULES[index].1)
}
