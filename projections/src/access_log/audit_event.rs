//! An access as a FHIR R4 AuditEvent, shaped by IHE's Basic Audit Log Patterns (BALP 1.1): Read, PatientRead, Query and
//! PatientQuery for what succeeded. A failure follows the same pattern and claims no profile, since BALP's are of successes.
//!
//! BALP makes one event per patient of a search's result; ours is one event with an entity for each patient, because there is
//! one record per request. Such an event claims the profile without a patient.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::query::Access;

const PROFILES: &str = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.";
const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
/// What records and serves.
const SERVER: &str = "NexusHealth";

/// What a request does, in the words of FHIR's RESTful interactions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interaction {
    Read,
    Search,
    Create,
    Update,
    Delete,
}

/// The AuditEvent of an access.
pub(super) fn audit_event(access: &Access) -> Value {
    let interaction = interaction(access);
    let mut event = json!({
        "resourceType": "AuditEvent",
        "id": access.id,
        "meta": {
            "lastUpdated": instant(&access.completed_at.unwrap_or(access.at)),
        },
        "type": {
            "system": "http://terminology.hl7.org/CodeSystem/audit-event-type",
            "code": "rest",
            "display": "Restful Operation",
        },
        "subtype": [{
            "system": "http://hl7.org/fhir/restful-interaction",
            "code": interaction.code(),
            "display": interaction.code(),
        }],
        "action": interaction.action(),
        "recorded": instant(&access.at),
        "outcome": outcome_code(&access.outcome),
        "agent": [user(access), client(access, interaction), server(interaction)],
        "source": {
            "observer": {"display": SERVER},
            "type": [{
                "system": "http://terminology.hl7.org/CodeSystem/security-source-type",
                "code": "4",
                "display": "Application Server",
            }],
        },
        "entity": entities(access, interaction),
    });
    if access.outcome != "success" {
        event["outcomeDesc"] = access.outcome.clone().into();
    } else if let Some(profile) = profile(access, interaction) {
        event["meta"]["profile"] = json!([format!("{PROFILES}{profile}")]);
    }
    if access.break_glass {
        event["purposeOfEvent"] =
            json!([{"coding": [{"system": ACT_REASON, "code": "BTG", "display": "break the glass"}]}]);
    }
    event
}

fn instant(at: &chrono::DateTime<chrono::Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

impl Interaction {
    fn code(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Search => "search",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Read => "R",
            Self::Search => "E",
            Self::Create => "C",
            Self::Update => "U",
            Self::Delete => "D",
        }
    }
}

/// A read names one resource by its id; whatever else is read is a search.
fn interaction(access: &Access) -> Interaction {
    const LISTS: &[&str] =
        &["SearchPatients", "ReadCensus", "ReadAppointments", "ReadPopulation", "ReadAccessLog", "ReadOperations"];
    match access.method.as_str() {
        "POST" => Interaction::Create,
        "PUT" | "PATCH" => Interaction::Update,
        "DELETE" => Interaction::Delete,
        _ if access.route.ends_with("/{id}") => Interaction::Read,
        _ if access.actions.iter().any(|action| LISTS.contains(&action.as_str())) => Interaction::Search,
        _ if access.route.contains("{id}") => Interaction::Read,
        _ => Interaction::Search,
    }
}

/// Which of BALP's profiles the event of a success is an instance of.
fn profile(access: &Access, interaction: Interaction) -> Option<&'static str> {
    match (interaction, access.patients.len()) {
        (Interaction::Read, 1) => Some("PatientRead"),
        (Interaction::Read, _) => Some("Read"),
        (Interaction::Search, 1) => Some("PatientQuery"),
        (Interaction::Search, _) => Some("Query"),
        _ => None,
    }
}

/// FHIR knows no unknown outcome: minor failure, and the description says which.
fn outcome_code(outcome: &str) -> &'static str {
    match outcome {
        "success" => "0",
        "failed" => "8",
        _ => "4",
    }
}

fn user(access: &Access) -> Value {
    let roles = access.roles.iter().map(|role| json!({"text": role}));
    let mut agent = json!({
        "type": {"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
            "code": "IRCP",
            "display": "information recipient",
        }]},
        "who": {"identifier": {"value": access.actor}},
        "requestor": true,
        "purposeOfUse": [{"coding": [{"system": ACT_REASON, "code": access.purpose}]}],
    });
    if !access.roles.is_empty() {
        agent["role"] = roles.collect();
    }
    agent
}

fn client(access: &Access, interaction: Interaction) -> Value {
    let name = access.client.clone().unwrap_or_else(|| "unknown".to_owned());
    let mut agent = json!({
        "type": {"coding": [role(interaction != Interaction::Read)]},
        "who": {"identifier": {"value": name}},
        "requestor": false,
    });
    if let Some(address) = access.address {
        agent["network"] = json!({"address": address, "type": "2"});
    }
    agent
}

fn server(interaction: Interaction) -> Value {
    json!({
        "type": {"coding": [role(interaction == Interaction::Read)]},
        "who": {"display": SERVER},
        "requestor": false,
        "network": {"address": SERVER, "type": "1"},
    })
}

/// What is read flows from the server; a query's parameters, and what is written, flow from the client.
fn role(is_source: bool) -> Value {
    match is_source {
        true => json!({"system": DICOM, "code": "110153", "display": "Source Role ID"}),
        false => json!({"system": DICOM, "code": "110152", "display": "Destination Role ID"}),
    }
}

fn entities(access: &Access, interaction: Interaction) -> Vec<Value> {
    let mut entities: Vec<Value> = access.patients.iter().map(patient).collect();
    entities.push(if interaction == Interaction::Search { query(access) } else { data(access) });
    entities.push(json!({
        "what": {"identifier": {"value": access.id}},
        "type": {
            "system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType",
            "code": "XrequestId",
        },
    }));
    entities
}

fn patient(id: &uuid::Uuid) -> Value {
    json!({
        "what": {"reference": format!("Patient/{id}")},
        "type": entity_type("1", "Person"),
        "role": object_role("1", "Patient"),
    })
}

/// What was read: the resource of the path, or the view of a patient that the route is.
fn data(access: &Access) -> Value {
    let what = match (&access.target_type, access.target, access.patients.first()) {
        (Some(kind), Some(id), _) => json!({"reference": format!("{kind}/{id}")}),
        (_, _, Some(patient)) => json!({"reference": format!("Patient/{patient}")}),
        _ => json!({"display": access.route}),
    };
    json!({
        "what": what,
        "type": entity_type("2", "System Object"),
        "role": object_role("4", "Domain Resource"),
        "description": access.route,
    })
}

/// The route and the names of the parameters; what was searched for is not kept.
fn query(access: &Access) -> Value {
    let names = access.parameters.join("&");
    let text = if names.is_empty() { access.route.clone() } else { format!("{}?{names}", access.route) };
    json!({
        "type": entity_type("2", "System Object"),
        "role": object_role("24", "Query"),
        "description": text,
        "query": STANDARD.encode(&text),
    })
}

fn entity_type(code: &str, display: &str) -> Value {
    json!({"system": "http://terminology.hl7.org/CodeSystem/audit-entity-type", "code": code, "display": display})
}

fn object_role(code: &str, display: &str) -> Value {
    json!({"system": "http://terminology.hl7.org/CodeSystem/object-role", "code": code, "display": display})
}
