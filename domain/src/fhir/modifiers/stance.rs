//! What a resource says about its own truth: whether it is so, was never so, is only meant, or may be so.

use serde_json::Value;

use super::is_understood;
use crate::common::has_tag;
use crate::fhir::Resource;

const ENTERED_IN_ERROR: &str = "entered-in-error";
const CODE_SYSTEMS: &str = "http://terminology.hl7.org/CodeSystem/";
/// HL7's reason for a nullification, as a tag of what has no status to say so.
const RETRACTED: (&str, &str) = ("http://terminology.hl7.org/CodeSystem/v3-ActReason", "EIE");

/// How a resource is to be taken. The word of each is what a reader is shown in place of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// It should not have been recorded: it stands in no view.
    Error,
    /// Something changes its meaning that no one here knows.
    NotUnderstood,
    /// It states that something is not so: not to be given, not done, not taken, refuted.
    Denied(&'static str),
    /// It is only meant: a proposal, a plan, an option.
    Meant(&'static str),
    /// It may be so, or in part: unconfirmed, provisional, one of several possible diagnoses, a dose too weak to count.
    Doubtful(&'static str),
    Fact,
}

impl Stance {
    /// Whether a list that states facts has it; what may be so stands there and is shown as such.
    pub fn states_a_fact(self) -> bool {
        matches!(self, Self::Fact | Self::Doubtful(_))
    }

    /// What a reader must be told besides the status.
    pub fn qualifier(self) -> Option<&'static str> {
        match self {
            Self::Doubtful(word) => Some(word),
            Self::Error | Self::Fact => None,
            other => other.word(),
        }
    }

    /// What stands in place of the status, where the status alone would mislead.
    fn word(self) -> Option<&'static str> {
        match self {
            Self::Error => Some(ENTERED_IN_ERROR),
            Self::NotUnderstood => Some("not-understood"),
            Self::Denied(word) | Self::Meant(word) => Some(word),
            Self::Doubtful(_) | Self::Fact => None,
        }
    }
}

/// How a resource is to be taken.
pub fn stance(resource: &Resource) -> Stance {
    if is_entered_in_error(resource) {
        return Stance::Error;
    }
    if !is_understood(resource) {
        return Stance::NotUnderstood;
    }
    denied(resource)
        .map(Stance::Denied)
        .or_else(|| meant(resource).map(Stance::Meant))
        .or_else(|| doubtful(resource).map(Stance::Doubtful))
        .unwrap_or(Stance::Fact)
}

/// The status that matters to a reader: what makes the resource no fact outranks its clinical status, and that any other.
pub fn status(resource: &Resource) -> Option<&str> {
    stance(resource).word().or_else(|| coded_status(resource, "clinicalStatus")).or_else(|| own_status(resource))
}

/// `clinicalStatus` or `verificationStatus`, by the coding of FHIR's own code system wherever it stands among others.
pub fn coded_status<'a>(resource: &'a Resource, element: &str) -> Option<&'a str> {
    let items = resource.get(element)?.get("coding")?.as_array()?;
    let text = |coding: &'a Value, name: &str| coding.get(name).and_then(Value::as_str);
    let of_fhir = |coding: &&'a Value| text(coding, "system").is_some_and(|system| is_system_of(system, element));
    // Without a system it can only be taken at its word.
    let bare = |coding: &&'a Value| coding.get("system").is_none();
    let coding = items.iter().find(of_fhir).or_else(|| items.iter().find(bare))?;
    text(coding, "code")
}

fn is_system_of(system: &str, element: &str) -> bool {
    let names = match element {
        "clinicalStatus" => ["condition-clinical", "allergyintolerance-clinical"],
        _ => ["condition-ver-status", "allergyintolerance-verification"],
    };
    system.strip_prefix(CODE_SYSTEMS).is_some_and(|name| names.contains(&name))
}

/// Whether the resource says that it should not have been recorded.
pub fn is_entered_in_error(resource: &Resource) -> bool {
    has_error_status(resource) || has_tag(resource, RETRACTED.0, RETRACTED.1)
}

/// The same in an element of its own: without the tag that types get which have none.
pub fn has_error_status(resource: &Resource) -> bool {
    own_status(resource) == Some(ENTERED_IN_ERROR)
        || coded_status(resource, "verificationStatus") == Some(ENTERED_IN_ERROR)
}

/// The element that the type has for it (<https://hl7.org/fhir/R4/resourcelist.html>).
fn own_status(resource: &Resource) -> Option<&str> {
    match resource.resource_type() {
        "Goal" => resource.text("lifecycleStatus"),
        "DeviceMetric" => resource.text("operationalStatus"),
        "AppointmentResponse" => resource.text("participantStatus"),
        "AdverseEvent" => resource.text("actuality"),
        "BodyStructure" | "RelatedPerson" | "Person" => in_use(resource),
        _ => resource.text("status"),
    }
}

fn in_use(resource: &Resource) -> Option<&'static str> {
    (resource.get("active") == Some(&Value::Bool(false))).then_some("inactive")
}

fn denied(resource: &Resource) -> Option<&'static str> {
    let forbids = resource.get("doNotPerform") == Some(&Value::Bool(true));
    match (resource.resource_type(), resource.text("status")) {
        _ if forbids && resource.resource_type() == "MedicationRequest" => Some("not-to-be-given"),
        _ if forbids => Some("not-to-be-done"),
        ("MedicationStatement", Some("not-taken")) => Some("not-taken"),
        ("Procedure" | "Immunization" | "MedicationAdministration" | "Communication", Some("not-done")) => {
            Some("not-done")
        }
        _ => (coded_status(resource, "verificationStatus") == Some("refuted")).then_some("refuted"),
    }
}

/// A request that is no order yet (<https://hl7.org/fhir/R4/valueset-request-intent.html>). A care plan is a plan by nature.
fn meant(resource: &Resource) -> Option<&'static str> {
    let kind = resource.resource_type();
    let is_request = matches!(
        kind,
        "MedicationRequest" | "ServiceRequest" | "DeviceRequest" | "NutritionOrder" | "RequestGroup" | "Task"
    );
    let intent = resource.text("intent").filter(|_| is_request || kind == "CarePlan");
    match (kind, intent) {
        (_, Some("proposal")) => Some("proposal"),
        (_, Some("option")) => Some("option"),
        ("CarePlan", _) => None,
        (_, Some("plan")) => Some("plan"),
        (_, Some("directive")) => Some("directive"),
        ("AdverseEvent", _) if resource.text("actuality") == Some("potential") => Some("potential"),
        _ => None,
    }
}

fn doubtful(resource: &Resource) -> Option<&'static str> {
    if resource.get("isSubpotent") == Some(&Value::Bool(true)) {
        return Some("subpotent");
    }
    let said = coded_status(resource, "verificationStatus")?;
    ["unconfirmed", "provisional", "differential"].into_iter().find(|word| *word == said)
}
