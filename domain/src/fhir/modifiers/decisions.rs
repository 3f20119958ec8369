//! What is done about each modifier element of R4, and by whom. `docs/modifiers.md` is written from here.

/// Every modifier element of R4: on each line a type and the paths within it. Made by `cargo xtask modifiers`.
pub const R4: &str = include_str!("r4.txt");

/// What is done about an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// What it says is minded wherever it would change what is shown, counted, scored or decided.
    Honoured,
    /// Nobody here knows what it means: the resource is kept, readable, and in the timeline as not understood; it is in no
    /// list that states facts, no series and no score, and opens nothing.
    NotUnderstood,
    /// A resource that has it is not taken.
    Refused,
    /// Nothing is read from where it stands: it is kept and read back as it came, or its type is not kept at all.
    Kept,
}

/// A decision about elements, each a path or one with a star for anything.
#[derive(Debug)]
pub struct Row {
    pub elements: &'static [&'static str],
    pub decision: Decision,
    /// What follows from it.
    pub how: &'static str,
    /// The aggregates and read models that mind it; `access` are the rules of consents and care.
    pub by: &'static [&'static str],
    /// Read models that read the type and have nothing to mind: they take nothing that the element changes.
    pub spared: &'static [&'static str],
}

impl Row {
    fn covers(&self, element: &str) -> bool {
        self.elements.iter().any(|pattern| match pattern.split_once('*') {
            None => *pattern == element,
            Some((start, end)) => {
                element.len() >= start.len() + end.len() && element.starts_with(start) && element.ends_with(end)
            }
        })
    }
}

/// The row that decides about an element: the first that covers it.
pub fn decision(element: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.covers(element))
}

/// The modifier elements of R4 as paths.
pub fn elements() -> impl Iterator<Item = String> {
    R4.lines().flat_map(|line| {
        let mut words = line.split_whitespace();
        let resource_type = words.next().unwrap_or_default();
        words.map(move |path| format!("{resource_type}.{path}"))
    })
}

const ONLY_WHO: &[&str] = &["patient_chart", "vital_signs", "timeline", "appointments", "ward_census", "ward_alerts"];
const SERIES: &[&str] = &["Observation", "vital_signs", "early_warning"];

/// All decisions, the more particular first.
pub static ROWS: &[Row] = &[
    Row {
        elements: &["Patient.*implicitRules", "Patient.*modifierExtension"],
        decision: Decision::Refused,
        how: "Whose record it is must be certain: `not-understood`.",
        by: &["Patient"],
        spared: &[],
    },
    Row {
        elements: &["*implicitRules", "*modifierExtension"],
        decision: Decision::NotUnderstood,
        how: "Anywhere in a resource, contained ones and datatypes included. An encounter of that kind is in no census, an \
              appointment in no calendar and never reminded of; neither lets anybody in. A consent denies more and permits \
              nothing. An allergy still warns.",
        by: &[
            "access",
            "access_grants",
            "patient_chart",
            "timeline",
            "vital_signs",
            "early_warning",
            "ward_census",
            "appointments",
            "appointment_follow_up",
            "population",
        ],
        spared: &["ward_alerts"],
    },
    Row {
        elements: &["Patient.active"],
        decision: Decision::Honoured,
        how: "Shown where people are searched for; one that is not in use is found nevertheless, to be told apart.",
        by: &["patient_directory"],
        spared: &[
            "patient_chart",
            "vital_signs",
            "timeline",
            "appointments",
            "ward_census",
            "ward_alerts",
            "early_warning",
            "population",
        ],
    },
    Row {
        elements: &["Patient.deceased[x]"],
        decision: Decision::Honoured,
        how: "Nothing is begun for the dead; search says so, and the population counts them as dead.",
        by: &["Patient", "Encounter", "MedicationOrder", "Appointment", "patient_directory", "population"],
        spared: &[
            "patient_chart",
            "vital_signs",
            "timeline",
            "appointments",
            "ward_census",
            "ward_alerts",
            "early_warning",
        ],
    },
    Row {
        elements: &["Patient.link"],
        decision: Decision::Honoured,
        how: "A replaced record leads to the one in its place, takes no new facts, and is not counted.",
        by: &["Patient", "patient_directory", "population"],
        spared: &[
            "patient_chart",
            "vital_signs",
            "timeline",
            "appointments",
            "ward_census",
            "ward_alerts",
            "early_warning",
        ],
    },
    Row {
        elements: &["HumanName.use", "Address.use", "ContactPoint.use", "Identifier.use"],
        decision: Decision::Honoured,
        how: "Shown with the name, address or number that it belongs to; an old one still finds its bearer.",
        by: &["Patient", "patient_directory", "appointments", "ward_census"],
        spared: ONLY_WHO,
    },
    Row {
        elements: &["*.comparator"],
        decision: Decision::Honoured,
        how: "Part of the value wherever it is shown, compared, scored or plotted.",
        by: SERIES,
        spared: &["timeline", "patient_chart"],
    },
    Row {
        elements: &["Observation.status"],
        decision: Decision::Honoured,
        how: "`entered-in-error` is in no view; preliminary findings count and say so; what is cancelled, only registered or \
              unknown is in no series and no score.",
        by: &["Observation", "vital_signs", "early_warning", "timeline"],
        spared: &[],
    },
    Row {
        elements: &["Condition.clinicalStatus"],
        decision: Decision::Honoured,
        how: "By FHIR's own coding wherever it stands: active, recurring and relapsing problems are current.",
        by: &["Condition", "patient_chart", "timeline", "population"],
        spared: &[],
    },
    Row {
        elements: &["Condition.verificationStatus"],
        decision: Decision::Honoured,
        how: "`entered-in-error` is in no view, `refuted` is no current problem; `unconfirmed`, `provisional` and \
              `differential` are shown as `qualifier`. None of them is counted.",
        by: &["Condition", "patient_chart", "timeline", "population"],
        spared: &[],
    },
    Row {
        elements: &["AllergyIntolerance.clinicalStatus", "AllergyIntolerance.verificationStatus"],
        decision: Decision::Honoured,
        how: "Past, refuted and erroneous allergies do not warn; an unconfirmed one does and says so.",
        by: &["Allergy", "MedicationOrder", "patient_chart", "timeline"],
        spared: &[],
    },
    Row {
        elements: &["MedicationRequest.status"],
        decision: Decision::Honoured,
        how: "Only active orders and those on hold are current; `entered-in-error` is in no view.",
        by: &["MedicationOrder", "patient_chart", "timeline"],
        spared: &[],
    },
    Row {
        elements: &["MedicationRequest.intent"],
        decision: Decision::Honoured,
        how: "A proposal, plan or option is no order: it says so in place of its status, and is not current.",
        by: &["MedicationOrder", "patient_chart", "timeline"],
        spared: &[],
    },
    Row {
        elements: &["MedicationRequest.doNotPerform"],
        decision: Decision::Honoured,
        how: "`not-to-be-given` in place of the status, not among what the patient takes, and not checked against allergies.",
        by: &["MedicationOrder", "patient_chart", "timeline"],
        spared: &[],
    },
    Row {
        elements: &["Encounter.status"],
        decision: Decision::Honoured,
        how: "Who is in the house, who is cared for and since when; `entered-in-error` and cancelled ones are neither.",
        by: &[
            "Encounter",
            "access",
            "access_grants",
            "patient_chart",
            "timeline",
            "ward_census",
            "early_warning",
            "ward_alerts",
        ],
        spared: &[],
    },
    Row {
        elements: &["Appointment.status"],
        decision: Decision::Honoured,
        how: "A cancelled or missed one takes no time and lets nobody in; `entered-in-error` is in no calendar.",
        by: &["Appointment", "access", "access_grants", "appointments", "appointment_follow_up", "timeline"],
        spared: &[],
    },
    Row {
        elements: &["Consent.status", "Consent.scope"],
        decision: Decision::Honoured,
        how: "Only an active consent decides; one about research decides who is counted and nothing else.",
        by: &["Consent", "access", "access_grants", "population", "timeline"],
        spared: &[],
    },
    Row {
        elements: &["Procedure.status", "MedicationStatement.status"],
        decision: Decision::Honoured,
        how: "`not-done` and `not-taken` are shown as such and are not current; `entered-in-error` is in no view.",
        by: &["ClinicalRecord", "patient_chart", "timeline"],
        spared: &[],
    },
    Row {
        elements: &["Immunization.status", "Immunization.isSubpotent"],
        decision: Decision::Honoured,
        how: "`not-done` and `subpotent` are shown as such; `entered-in-error` is in no view.",
        by: &["ClinicalRecord", "patient_chart", "timeline"],
        spared: &[],
    },
    Row {
        elements: &["DocumentReference.status", "DiagnosticReport.status", "Composition.status"],
        decision: Decision::Honoured,
        how: "A superseded, cancelled or deprecated document is past; `entered-in-error` is in no view.",
        by: &["ClinicalRecord", "patient_chart", "timeline"],
        spared: &[],
    },
    Row {
        elements: &[
            "CarePlan.intent",
            "DeviceRequest.intent",
            "NutritionOrder.intent",
            "RequestGroup.intent",
            "ServiceRequest.intent",
            "AdverseEvent.actuality",
        ],
        decision: Decision::Honoured,
        how: "A proposal, plan or option, and an event that has not happened, say so in place of a status. A care plan is a \
              plan by nature.",
        by: &["timeline"],
        spared: &["patient_chart"],
    },
    Row {
        elements: &["ServiceRequest.doNotPerform", "CommunicationRequest.doNotPerform"],
        decision: Decision::Honoured,
        how: "`not-to-be-done` in place of the status.",
        by: &["timeline"],
        spared: &["patient_chart"],
    },
    Row {
        elements: &["Basic.code"],
        decision: Decision::Honoured,
        how: "It is what the line of the timeline says.",
        by: &["timeline"],
        spared: &["patient_chart"],
    },
    Row {
        elements: &["BodyStructure.active", "Person.active", "RelatedPerson.active"],
        decision: Decision::Honoured,
        how: "`inactive` in place of a status.",
        by: &["ClinicalRecord", "timeline"],
        spared: &["patient_chart"],
    },
    Row {
        elements: &["Medication.status"],
        decision: Decision::Kept,
        how: "Orders name a medicine that is no longer in use, too. A Medication entered in error keeps its name, and hides \
              what it hid.",
        by: &[],
        spared: &["patient_chart", "timeline", "ward_census"],
    },
    Row {
        elements: &[
            "CarePlan.activity.detail.doNotPerform",
            "CarePlan.activity.detail.status",
            "Contract.term.action.doNotPerform",
            "ImmunizationRecommendation.recommendation.forecastStatus",
            "List.entry.deleted",
            "List.mode",
            "MeasureReport.improvementNotation",
        ],
        decision: Decision::Kept,
        how: "The timeline has one line for the whole, and takes nothing from its parts.",
        by: &[],
        spared: &["patient_chart", "timeline"],
    },
    Row {
        elements: &[
            "ActivityDefinition.doNotPerform",
            "ConceptMap.group.element.target.equivalence",
            "HealthcareService.active",
            "MedicinalProductIngredient.specifiedSubstance.strength.concentrationLowLimit",
            "MedicinalProductIngredient.specifiedSubstance.strength.presentationLowLimit",
            "Organization.active",
            "Questionnaire.item.enableWhen",
            "Schedule.active",
            "ActivityDefinition.status",
            "CapabilityStatement.status",
            "ChargeItemDefinition.status",
            "CodeSystem.status",
            "CompartmentDefinition.status",
            "ConceptMap.status",
            "EffectEvidenceSynthesis.status",
            "Endpoint.status",
            "EventDefinition.status",
            "Evidence.status",
            "EvidenceVariable.status",
            "ExampleScenario.status",
            "GraphDefinition.status",
            "ImplementationGuide.status",
            "InsurancePlan.status",
            "Library.status",
            "Location.status",
            "Measure.status",
            "MedicationKnowledge.status",
            "MessageDefinition.status",
            "MetadataResource.status",
            "NamingSystem.status",
            "OperationDefinition.status",
            "PlanDefinition.status",
            "Questionnaire.status",
            "ResearchDefinition.status",
            "ResearchElementDefinition.status",
            "ResearchStudy.status",
            "RiskEvidenceSynthesis.status",
            "SearchParameter.status",
            "StructureDefinition.status",
            "StructureMap.status",
            "Subscription.status",
            "Substance.status",
            "TerminologyCapabilities.status",
            "TestReport.status",
            "TestScript.status",
            "ValueSet.status",
        ],
        decision: Decision::Kept,
        how: "It is about no patient: nobody is shown, counted or scored by it.",
        by: &[],
        // The name of a ward or of a medicine is the same in any status.
        spared: &["patient_chart", "timeline", "ward_census"],
    },
    Row {
        elements: &["*.status", "Goal.lifecycleStatus", "AppointmentResponse.participantStatus"],
        decision: Decision::Honoured,
        how: "Shown as the status; `entered-in-error` is in no view.",
        by: &["ClinicalRecord", "timeline"],
        spared: &["patient_chart"],
    },
];

/// The decisions as a page.
pub fn page() -> String {
    let mut page = String::from(HEAD);
    for row in ROWS {
        let elements: Vec<_> = row.elements.iter().map(|element| format!("`{element}`")).collect();
        let by: Vec<_> = row.by.iter().map(|reader| format!("`{reader}`")).collect();
        let decision = match row.decision {
            Decision::Honoured => "honoured",
            Decision::NotUnderstood => "not understood",
            Decision::Refused => "refused",
            Decision::Kept => "kept",
        };
        let cells = [elements.join(", "), decision.to_owned(), row.how.to_owned(), by.join(", ")];
        page.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    page
}

const HEAD: &str = "# Modifier elements

Some elements of FHIR R4 change what the rest of a resource says (`isModifier`). This is what is done about each of them, and
by which aggregates and read models; `access` are the rules of consents and care. The first row that fits counts.
Written from `domain/src/fhir/modifiers/decisions.rs` by its test (`NEXUS_UPDATE=1`), which fails on an element that nobody
decided about. The list of elements is `domain/src/fhir/modifiers/r4.txt`: `cargo xtask modifiers FOLDER` makes it from
`profiles-resources.json` and `profiles-types.json` of the R4 definitions (<https://hl7.org/fhir/R4/downloads.html>).

*Honoured*: minded wherever it would change what is shown, counted, scored or decided. *Not understood*: kept, readable, and
in the timeline with the qualifier `not-understood`; in no chart list, series or score. *Refused*: not taken. *Kept*: nothing is
read from where it stands; it is read back as it came, if its type is kept at all.

`GET /fhir/{type}/{id}` answers a resource as it came, whatever its modifiers say; so whoever reads by id reads them too.

| Elements | Decision | What follows | By |
|---|---|---|---|
";
