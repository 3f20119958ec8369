//! Encounters: start, transfer, finish, cancel.

use axum::extract::State;
use nexus_auth::policy::Action;
use nexus_domain::Record;
use nexus_domain::encounter::{Encounter, EncounterCommand};
use nexus_domain::fhir::Resource;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::accepted::{Accepted, AcceptedBody};
use crate::app::App;
use crate::body::{
    Coding, Command, Concept, Id, Moment, NoBody, OptionalReason, at_or_now, object, reference, resource, time,
};
use crate::openapi::{CommandHeaders, Refusals};
use crate::refusal::Refusal;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(start_encounter))
        .routes(routes!(transfer_encounter))
        .routes(routes!(finish_encounter))
        .routes(routes!(cancel_encounter))
        .routes(routes!(mark_encounter_entered_in_error))
}

/// An encounter that begins.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({
    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP", "display": "inpatient encounter"},
    "location": "018f5c1e-0d5b-7c3a-9a51-4b8a4f1e2d3c"
}))]
pub struct EncounterBody {
    pub class: Coding,
    #[serde(rename = "type")]
    pub kind: Option<Concept>,
    /// Where the patient is: a Location of the directory, such as a ward.
    pub location: Option<Uuid>,
    /// Who is responsible: a Practitioner of the directory.
    pub practitioner: Option<Uuid>,
    /// Who provides the care: an Organization of the directory.
    pub organization: Option<Uuid>,
    pub reason: Option<Concept>,
    /// Now if left out.
    pub started_at: Option<Moment>,
}

/// Where the patient goes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"location": "018f5c1e-0d5b-7c3a-9a51-4b8a4f1e2d3c"}))]
pub struct TransferBody {
    /// A Location of the directory.
    pub location: Uuid,
    /// Now if left out.
    pub at: Option<Moment>,
}

/// How the encounter ended.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"disposition": {
    "system": "http://terminology.hl7.org/CodeSystem/discharge-disposition", "code": "home", "display": "Home"
}}))]
pub struct FinishBody {
    /// FHIR discharge disposition.
    pub disposition: Coding,
    /// Now if left out.
    pub at: Option<Moment>,
}

impl EncounterBody {
    fn into_resource(self, patient: Uuid) -> Result<Resource, Refusal> {
        let started = time(at_or_now(self.started_at));
        let location =
            |id| json!([{"location": reference("Location", id), "status": "active", "period": {"start": started}}]);
        let participant = |id| json!([{"individual": reference("Practitioner", id)}]);
        resource(object([
            ("resourceType", Some(Value::from("Encounter"))),
            ("status", Some(Value::from("in-progress"))),
            ("class", Some(self.class.to_fhir())),
            ("type", self.kind.as_ref().map(|kind| json!([kind.to_fhir()]))),
            ("subject", Some(reference("Patient", patient))),
            ("participant", self.practitioner.map(participant)),
            ("period", Some(json!({"start": started}))),
            ("reasonCode", self.reason.as_ref().map(|reason| json!([reason.to_fhir()]))),
            ("location", self.location.map(location)),
            ("serviceProvider", self.organization.map(|id| reference("Organization", id))),
        ]))
    }
}

/// Start an encounter: the patient is here.
#[utoipa::path(post, path = "/v1/patients/{id}/encounters", tag = "encounters",
    params(("id" = Uuid, Path, description = "The patient"), CommandHeaders), request_body = EncounterBody,
    responses((status = 201, description = "Started", body = AcceptedBody), Refusals))]
async fn start_encounter(
    State(app): State<App>,
    Id(patient): Id,
    command: Command<EncounterBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let resource = body.into_resource(patient)?;
    let start = |resource| EncounterCommand::Start { resource };
    app.create_by::<Encounter>("start_encounter", &call, Action::ManageEncounter, patient, resource, start).await
}

/// Move the patient to another location.
#[utoipa::path(post, path = "/v1/encounters/{id}/transfer", tag = "encounters",
    params(("id" = Uuid, Path), CommandHeaders), request_body = TransferBody,
    responses((status = 200, description = "Transferred", body = AcceptedBody), Refusals))]
async fn transfer_encounter(
    State(app): State<App>,
    Id(id): Id,
    command: Command<TransferBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let action = EncounterCommand::Transfer { location: body.location, at: at_or_now(body.at) };
    app.change::<Encounter>("transfer_encounter", &call, Action::ManageEncounter, id, action).await
}

/// Finish an encounter: the patient leaves.
#[utoipa::path(post, path = "/v1/encounters/{id}/finish", tag = "encounters",
    params(("id" = Uuid, Path), CommandHeaders), request_body = FinishBody,
    responses((status = 200, description = "Finished", body = AcceptedBody), Refusals))]
async fn finish_encounter(
    State(app): State<App>,
    Id(id): Id,
    command: Command<FinishBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let action = EncounterCommand::Finish { at: at_or_now(body.at), disposition: body.disposition.into_domain() };
    app.change::<Encounter>("finish_encounter", &call, Action::ManageEncounter, id, action).await
}

/// Cancel an encounter that does not take place.
#[utoipa::path(post, path = "/v1/encounters/{id}/cancel", tag = "encounters",
    params(("id" = Uuid, Path), CommandHeaders), request_body = OptionalReason,
    responses((status = 200, description = "Cancelled", body = AcceptedBody), Refusals))]
async fn cancel_encounter(
    State(app): State<App>,
    Id(id): Id,
    command: Command<OptionalReason>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let action = EncounterCommand::Cancel { reason: body.reason };
    app.change::<Encounter>("cancel_encounter", &call, Action::ManageEncounter, id, action).await
}

/// Mark an encounter as entered in error.
#[utoipa::path(post, path = "/v1/encounters/{id}/entered-in-error", tag = "encounters",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Marked", body = AcceptedBody), Refusals))]
async fn mark_encounter_entered_in_error(
    State(app): State<App>,
    Id(id): Id,
    command: Command<NoBody>,
) -> Result<Accepted, Refusal> {
    let name = "mark_encounter_entered_in_error";
    app.change::<Encounter>(name, &command.call, Action::ManageEncounter, id, Encounter::retract()).await
}
