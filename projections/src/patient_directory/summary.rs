//! What the directory says about a patient.

use nexus_domain::fhir::{Reference, Resource};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// The elements of the Patient that the directory keeps, sealed.
const ELEMENTS: &[&str] = &[
    "active",
    "identifier",
    "name",
    "telecom",
    "gender",
    "birthDate",
    "deceasedBoolean",
    "deceasedDateTime",
    "address",
    "link",
];

/// The part of the resource that is kept; still a Patient, so that it reads back as one.
pub(super) fn private(patient: &Resource) -> Map<String, Value> {
    let kept =
        patient.members().iter().filter(|(name, _)| *name == "resourceType" || ELEMENTS.contains(&name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A patient as a search finds them.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatientSummary {
    pub id: Uuid,
    /// FHIR HumanName.
    #[schema(value_type = Vec<Object>)]
    pub name: Vec<Value>,
    #[schema(example = "1959-07-30")]
    pub birth_date: Option<String>,
    #[schema(example = "female")]
    pub gender: Option<String>,
    /// FHIR Identifier.
    #[schema(value_type = Vec<Object>)]
    pub identifiers: Vec<Value>,
    pub deceased: bool,
    /// The record that took this one's place, if this one turned out to be a duplicate.
    pub replaced_by: Option<Uuid>,
    /// Without a care relationship identifiers are left out.
    pub limited: bool,
    /// How well the name fits what was asked for, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// All that the directory knows of a patient.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatientDetail {
    pub id: Uuid,
    /// The version of the Patient resource.
    pub sequence: i64,
    /// FHIR HumanName.
    #[schema(value_type = Vec<Object>)]
    pub name: Vec<Value>,
    pub birth_date: Option<String>,
    pub gender: Option<String>,
    /// FHIR Identifier.
    #[schema(value_type = Vec<Object>)]
    pub identifiers: Vec<Value>,
    /// FHIR Address.
    #[schema(value_type = Vec<Object>)]
    pub address: Vec<Value>,
    /// FHIR ContactPoint.
    #[schema(value_type = Vec<Object>)]
    pub telecom: Vec<Value>,
    pub deceased: bool,
    pub deceased_at: Option<String>,
    pub replaced_by: Option<Uuid>,
    pub entered_in_error: bool,
    /// Without a care relationship identifiers, address, contacts and the time of death are left out.
    pub limited: bool,
}

impl PatientSummary {
    pub(super) fn of(id: Uuid, patient: &Resource, score: Option<f64>) -> Self {
        Self {
            id,
            name: patient.items("name").to_vec(),
            birth_date: patient.text("birthDate").map(str::to_owned),
            gender: patient.text("gender").map(str::to_owned),
            identifiers: patient.items("identifier").to_vec(),
            deceased: deceased(patient),
            replaced_by: replaced_by(patient),
            limited: false,
            score,
        }
    }

    /// What it takes to tell people apart: name, birth date, gender.
    pub(super) fn limited(self) -> Self {
        Self { identifiers: Vec::new(), limited: true, ..self }
    }
}

impl PatientDetail {
    pub(super) fn of(id: Uuid, sequence: i64, withdrawn: bool, patient: &Resource) -> Self {
        let summary = PatientSummary::of(id, patient, None);
        Self {
            id,
            sequence,
            name: summary.name,
            birth_date: summary.birth_date,
            gender: summary.gender,
            identifiers: summary.identifiers,
            address: patient.items("address").to_vec(),
            telecom: patient.items("telecom").to_vec(),
            deceased: summary.deceased,
            deceased_at: patient.text("deceasedDateTime").map(str::to_owned),
            replaced_by: summary.replaced_by,
            entered_in_error: withdrawn,
            limited: false,
        }
    }

    /// What it takes to tell people apart: name, birth date, gender.
    pub(super) fn limited(self) -> Self {
        let (identifiers, address, telecom) = (Vec::new(), Vec::new(), Vec::new());
        Self { identifiers, address, telecom, deceased_at: None, limited: true, ..self }
    }
}

fn deceased(patient: &Resource) -> bool {
    patient.get("deceasedDateTime").is_some() || patient.get("deceasedBoolean").and_then(Value::as_bool) == Some(true)
}

fn replaced_by(patient: &Resource) -> Option<Uuid> {
    let replacing = |link: &&Value| link.get("type").and_then(Value::as_str) == Some("replaced-by");
    let link = patient.items("link").iter().find(replacing)?;
    match Reference::parse(link.pointer("/other/reference")?.as_str()?) {
        Reference::Resource { id, .. } => Some(id),
        _ => None,
    }
}
