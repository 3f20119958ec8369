//! Patients: register, update, record a death, link a duplicate.

use axum::extract::State;
use nexus_auth::policy::Action;
use nexus_domain::Record;
use nexus_domain::fhir::Resource;
use nexus_domain::patient::{Patient, PatientCommand};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::accepted::{Accepted, AcceptedBody};
use crate::app::App;
use crate::body::{
    Address, Command, HumanName, Id, Identifier, Moment, Telecom, at_or_now, list, object, overlay, resource, text,
};
use crate::executor::Standing;
use crate::openapi::{CommandHeaders, Refusals};
use crate::refusal::Refusal;

/// What a [`PatientBody`] says of a patient.
const ELEMENTS: &[&str] = &["identifier", "name", "telecom", "gender", "birthDate", "address"];

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register_patient))
        .routes(routes!(update_patient))
        .routes(routes!(record_death))
        .routes(routes!(link_patient))
}

/// Who a patient is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({
    "identifiers": [{"type": "MR", "system": "urn:oid:2.16.840.1.113883.19.5", "value": "12345"}],
    "names": [{"family": "Example", "given": ["Ada"]}],
    "gender": "female",
    "birthDate": "1985-04-12"
}))]
pub struct PatientBody {
    #[serde(default)]
    pub identifiers: Vec<Identifier>,
    #[serde(default)]
    pub names: Vec<HumanName>,
    /// FHIR `AdministrativeGender`: male, female, other or unknown.
    pub gender: Option<String>,
    /// A FHIR date: year, year and month, or day.
    pub birth_date: Option<String>,
    #[serde(default)]
    pub addresses: Vec<Address>,
    #[serde(default)]
    pub telecoms: Vec<Telecom>,
}

/// A patient's death.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"diedAt": "2026-11-24T08:00:00Z"}))]
pub struct DeathBody {
    /// Now if left out.
    pub died_at: Option<Moment>,
}

/// Which record stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"survivor": "018f5c1e-0d5b-7c3a-9a51-4b8a4f1e2d3c"}))]
pub struct LinkBody {
    /// The patient record in which work goes on.
    pub survivor: Uuid,
}

impl PatientBody {
    fn into_resource(self) -> Result<Resource, Refusal> {
        resource(object([
            ("resourceType", Some(Value::from("Patient"))),
            ("identifier", list(self.identifiers.iter().map(Identifier::to_fhir))),
            ("name", list(self.names.iter().map(HumanName::to_fhir))),
            ("telecom", list(self.telecoms.iter().map(Telecom::to_fhir))),
            ("gender", text(self.gender.as_ref())),
            ("birthDate", text(self.birth_date.as_ref())),
            ("address", list(self.addresses.iter().map(Address::to_fhir))),
        ]))
    }
}

/// Register a patient.
///
/// A medical record number (identifier type `MR`) belongs to one patient only: a second registration is refused with
/// `claim-taken`.
#[utoipa::path(post, path = "/v1/patients", tag = "patients", params(CommandHeaders), request_body = PatientBody,
    responses((status = 201, description = "Registered", body = AcceptedBody), Refusals))]
async fn register_patient(State(app): State<App>, command: Command<PatientBody>) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let (resource, subject) = (body.into_resource()?, call.new_id());
    app.create::<Patient>("register_patient", &call, Action::RegisterPatient, subject, resource).await
}

/// Replace what is known about who a patient is.
///
/// Identifiers, names, gender, birth date, addresses and telecoms become what the body says; what it leaves out is gone.
/// Everything else in the record stays: a death, links, contacts, languages, extensions.
#[utoipa::path(put, path = "/v1/patients/{id}", tag = "patients", params(("id" = Uuid, Path), CommandHeaders),
    request_body = PatientBody, responses((status = 200, description = "Updated", body = AcceptedBody), Refusals))]
async fn update_patient(
    State(app): State<App>,
    Id(id): Id,
    command: Command<PatientBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let body = body.into_resource()?;
    let action = move |standing: &Standing<Patient>| {
        let standing = standing.state.resource().ok_or(Refusal::NotFound)?;
        Ok(Patient::amend(overlay(standing, &body, |name| ELEMENTS.contains(&name))))
    };
    app.change_by::<Patient>("update_patient", &call, Action::UpdatePatient, id, action).await
}

/// Record that a patient has died.
#[utoipa::path(post, path = "/v1/patients/{id}/death", tag = "patients", params(("id" = Uuid, Path), CommandHeaders),
    request_body = DeathBody, responses((status = 200, description = "Recorded", body = AcceptedBody), Refusals))]
async fn record_death(State(app): State<App>, Id(id): Id, command: Command<DeathBody>) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let action = PatientCommand::RecordDeath { died_at: at_or_now(body.died_at) };
    app.change::<Patient>("record_death", &call, Action::RecordDeath, id, action).await
}

/// Say that a patient's record is a duplicate of another one.
#[utoipa::path(post, path = "/v1/patients/{id}/link", tag = "patients", params(("id" = Uuid, Path), CommandHeaders),
    request_body = LinkBody, responses((status = 200, description = "Linked", body = AcceptedBody), Refusals))]
async fn link_patient(State(app): State<App>, Id(id): Id, command: Command<LinkBody>) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    // Whether the survivor exists is told to the command once the caller is known to be allowed to ask.
    let action = PatientCommand::LinkDuplicate { survivor: body.survivor, survivor_exists: false };
    app.change::<Patient>("link_patient", &call, Action::LinkPatient, id, action).await
}
