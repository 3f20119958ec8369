//! SMART App Launch 2.2 scopes (<https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html>).
//!
//! Scopes never add to what roles allow. A token that carries one is limited to what its scopes cover; one that we can't
//! read, or whose restriction (`?category=…`) we don't enforce, covers nothing.

use super::{Action, ResourceContext};
use crate::caller::{Caller, Role};

/// Whose data a scope is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Context {
    /// The patient of the token.
    Patient,
    /// Whatever the user may see.
    User,
    /// Whatever a service without a user may see.
    System,
}

/// One scope: whose, which resource type (`*` for all), which of the letters `cruds`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope<'a> {
    context: Context,
    resource_type: &'a str,
    letters: &'a str,
}

impl<'a> Scope<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (context, rest) = context_of(text)?;
        let (resource_type, letters) = rest.split_once('.')?;
        let named = resource_type.starts_with(|first: char| first.is_ascii_uppercase())
            && resource_type.bytes().all(|byte| byte.is_ascii_alphabetic());
        let letters = match letters {
            "*" => "cruds",
            "read" => "rs",
            "write" => "cud",
            letters => in_order(letters)?,
        };
        (named || resource_type == "*").then_some(Self { context, resource_type, letters })
    }

    fn is_about(&self, resource_type: &str) -> bool {
        self.resource_type == "*" || self.resource_type == resource_type
    }
}

/// `cruds`, each letter at most once and in this order, as SMART 2 demands.
fn in_order(letters: &str) -> Option<&str> {
    let mut rest = "cruds";
    for letter in letters.chars() {
        (_, rest) = rest.split_once(letter)?;
    }
    (!letters.is_empty()).then_some(letters)
}

fn context_of(text: &str) -> Option<(Context, &str)> {
    let (context, rest) = text.split_once('/')?;
    match context {
        "patient" => Some((Context::Patient, rest)),
        "user" => Some((Context::User, rest)),
        "system" => Some((Context::System, rest)),
        _ => None,
    }
}

/// What an action takes in terms of FHIR: resource types, one of which must be covered, and letters, all of which must.
pub(crate) fn required(action: Action, resource: &ResourceContext<'_>) -> (&'static [&'static str], &'static str) {
    use Action::*;
    let write = if resource.is_new { "c" } else { "u" };
    match action {
        RegisterPatient => (&["Patient"], "c"),
        UpdatePatient | RecordDeath | LinkPatient => (&["Patient"], "u"),
        ManageEncounter => (&["Encounter"], write),
        RecordObservation => (&["Observation"], write),
        RecordCondition => (&["Condition"], write),
        RecordAllergy => (&["AllergyIntolerance"], write),
        Prescribe => (&["MedicationRequest"], "c"),
        ManageMedication => (&["MedicationRequest"], "u"),
        ManageAppointment => (&["Appointment"], write),
        MarkNoShow | RemindAppointment => (&["Appointment"], "u"),
        ManageAlert => (&["Flag"], "cu"),
        ManageConsent => (&["Consent"], write),
        // The resource says its type; only a scope for all types covers what does not.
        FileRecord | ManageDirectory => (&["*"], write),
        ImportBundle => (&["*"], "cu"),
        RequestErasure | ApproveErasure => (&["Patient"], "d"),
        ManageLegalHold => (&["Patient"], "u"),
        ReadErasure => (&["Patient"], "r"),
        ReadAccessLog | ReadPatientAccesses => (&["AuditEvent"], "s"),
        BreakGlass => (&["Task"], "c"),
        ReviewEmergency => (&["Task"], "u"),
        ReadEmergencies => (&["Task"], "s"),
        SearchPatients => (&["Patient"], "s"),
        // Lists: each row is looked at again, with its own type.
        ReadChart => (CHART, "s"),
        ReadTimeline => (TIMELINE, "s"),
        ReadVitalSigns => (&["Observation"], "s"),
        ReadAlerts => (&["Flag"], "s"),
        ReadCensus => (&["Encounter"], "s"),
        ReadAppointments => (&["Appointment"], "s"),
        ReadPopulation => (&["MeasureReport"], "s"),
        ReadFhir | ReadDirectory => (&["*"], "r"),
        // No FHIR resource: no scope covers it.
        ReadOperations => (&[], "s"),
        ManageOperations => (&[], "u"),
    }
}

const CHART: &[&str] = &[
    "Condition",
    "AllergyIntolerance",
    "MedicationRequest",
    "MedicationStatement",
    "MedicationAdministration",
    "Encounter",
    "Procedure",
    "Immunization",
    "DocumentReference",
    "DiagnosticReport",
];

/// Any clinical type may stand in a timeline.
const TIMELINE: &[&str] = &[
    "Patient",
    "Observation",
    "Appointment",
    "Consent",
    "Condition",
    "AllergyIntolerance",
    "MedicationRequest",
    "MedicationStatement",
    "MedicationAdministration",
    "Encounter",
    "Procedure",
    "Immunization",
    "DocumentReference",
    "DiagnosticReport",
    "CarePlan",
    "CareTeam",
    "Claim",
    "ExplanationOfBenefit",
    "Flag",
    "ImagingStudy",
    "Provenance",
    "Task",
];

/// Whether the token's scopes cover this. A token without SMART scopes is limited by its roles only.
pub(super) fn cover(caller: &Caller, action: Action, resource: &ResourceContext<'_>) -> bool {
    let smart: Vec<_> = caller.scopes().iter().filter(|scope| context_of(scope).is_some()).collect();
    if smart.is_empty() {
        return true;
    }
    let (types, letters) = required(action, resource);
    let asked = resource.resource_type.map_or(types.to_vec(), |resource_type| vec![resource_type]);
    let scopes: Vec<_> = smart.into_iter().filter_map(|scope| Scope::parse(scope)).collect();
    let covers = |resource_type: &str, letter: char| {
        scopes.iter().any(|scope| {
            scope.is_about(resource_type) && scope.letters.contains(letter) && applies(scope, caller, action, resource)
        })
    };
    asked.into_iter().any(|resource_type| letters.chars().all(|letter| covers(resource_type, letter)))
}

fn applies(scope: &Scope<'_>, caller: &Caller, action: Action, resource: &ResourceContext<'_>) -> bool {
    match scope.context {
        // The directory is about no patient, and is open to whoever reads a patient's record.
        Context::Patient if action == Action::ReadDirectory => true,
        Context::Patient => caller.patient().is_some() && caller.patient() == resource.subject,
        Context::User => !is_a_system(caller),
        Context::System => is_a_system(caller),
    }
}

/// Whether no person is behind the caller.
fn is_a_system(caller: &Caller) -> bool {
    caller.has(Role::Service) || caller.has(Role::Reactor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_strictly() {
        let read = |text| Scope::parse(text).map(|scope| (scope.context, scope.resource_type, scope.letters));
        assert_eq!(read("patient/Observation.rs"), Some((Context::Patient, "Observation", "rs")));
        assert_eq!(read("user/*.cruds"), Some((Context::User, "*", "cruds")));
        assert_eq!(read("system/Patient.read"), Some((Context::System, "Patient", "rs")));
        assert_eq!(read("system/Patient.write"), Some((Context::System, "Patient", "cud")));
        assert_eq!(read("user/Patient.*"), Some((Context::User, "Patient", "cruds")));
        for bad in [
            "patient/Observation",
            "patient/Observation.",
            "patient/Observation.sr",
            "patient/Observation.rr",
            "patient/Observation.x",
            "patient/Observation.Read",
            "patient/observation.rs",
            "patient/.rs",
            "patient/**.rs",
            "patient/Observation.rs?category=laboratory",
            "Patient/Observation.rs",
            "launch/patient",
            "openid",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
