//! Conditions: record, resolve, refute, mark as entered in error.

use axum::extract::State;
use nexus_auth::policy::Action;
use nexus_domain::Record;
use nexus_domain::condition::{Condition, ConditionCommand};
use nexus_domain::fhir::Resource;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::accepted::{Accepted, AcceptedBody};
use crate::app::App;
use crate::body::{Command, Concept, Id, Moment, NoBody, at_or_now, coded, object, reference, resource, text, time};
use crate::openapi::{CommandHeaders, Refusals};
use crate::refusal::Refusal;

const CLINICAL: &str = "http://terminology.hl7.org/CodeSystem/condition-clinical";
const VERIFICATION: &str = "http://terminology.hl7.org/CodeSystem/condition-ver-status";
const CATEGORY: &str = "http://terminology.hl7.org/CodeSystem/condition-category";

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(record_condition))
        .routes(routes!(resolve_condition))
        .routes(routes!(refute_condition))
        .routes(routes!(mark_condition_entered_in_error))
}

/// A problem or diagnosis.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({
    "code": {"system": "http://snomed.info/sct", "code": "44054006", "display": "Diabetes mellitus type 2"},
    "onset": "2019-03"
}))]
pub struct ConditionBody {
    pub code: Concept,
    /// FHIR clinical status; `active` if left out.
    pub clinical_status: Option<String>,
    /// FHIR verification status; `confirmed` if left out.
    pub verification_status: Option<String>,
    /// FHIR condition category: `problem-list-item` or `encounter-diagnosis`.
    pub category: Option<String>,
    pub severity: Option<Concept>,
    /// A FHIR `dateTime`, which may be partial.
    pub onset: Option<String>,
    pub encounter: Option<Uuid>,
    pub note: Option<String>,
}

/// When a condition ended.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"abatedAt": "2026-11-24T08:00:00Z"}))]
pub struct ResolveBody {
    /// Now if left out.
    pub abated_at: Option<Moment>,
}

impl ConditionBody {
    fn into_resource(self, patient: Uuid) -> Result<Resource, Refusal> {
        let clinical = self.clinical_status.as_deref().unwrap_or("active");
        let verification = self.verification_status.as_deref().unwrap_or("confirmed");
        resource(object([
            ("resourceType", Some(Value::from("Condition"))),
            ("clinicalStatus", Some(coded(CLINICAL, clinical))),
            ("verificationStatus", Some(coded(VERIFICATION, verification))),
            ("category", self.category.as_ref().map(|code| json!([coded(CATEGORY, code)]))),
            ("severity", self.severity.as_ref().map(Concept::to_fhir)),
            ("code", Some(self.code.to_fhir())),
            ("subject", Some(reference("Patient", patient))),
            ("encounter", self.encounter.map(|id| reference("Encounter", id))),
            ("onsetDateTime", text(self.onset.as_ref())),
            ("recordedDate", Some(time(chrono::Utc::now()))),
            ("note", self.note.as_ref().map(|note| json!([{"text": note}]))),
        ]))
    }
}

/// Record a condition.
#[utoipa::path(post, path = "/v1/patients/{id}/conditions", tag = "conditions",
    params(("id" = Uuid, Path, description = "The patient"), CommandHeaders), request_body = ConditionBody,
    responses((status = 201, description = "Recorded", body = AcceptedBody), Refusals))]
async fn record_condition(
    State(app): State<App>,
    Id(patient): Id,
    command: Command<ConditionBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let resource = body.into_resource(patient)?;
    app.create::<Condition>("record_condition", &call, Action::RecordCondition, patient, resource).await
}

/// State that a condition is over.
#[utoipa::path(post, path = "/v1/conditions/{id}/resolve", tag = "conditions",
    params(("id" = Uuid, Path), CommandHeaders), request_body = ResolveBody,
    responses((status = 200, description = "Resolved", body = AcceptedBody), Refusals))]
async fn resolve_condition(
    State(app): State<App>,
    Id(id): Id,
    command: Command<ResolveBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let action = ConditionCommand::Resolve { abated_at: at_or_now(body.abated_at) };
    app.change::<Condition>("resolve_condition", &call, Action::RecordCondition, id, action).await
}

/// State that the patient never had a condition.
#[utoipa::path(post, path = "/v1/conditions/{id}/refute", tag = "conditions",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Refuted", body = AcceptedBody), Refusals))]
async fn refute_condition(State(app): State<App>, Id(id): Id, command: Command<NoBody>) -> Result<Accepted, Refusal> {
    let action = ConditionCommand::Refute;
    app.change::<Condition>("refute_condition", &command.call, Action::RecordCondition, id, action).await
}

/// Mark a condition as entered in error.
#[utoipa::path(post, path = "/v1/conditions/{id}/entered-in-error", tag = "conditions",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Marked", body = AcceptedBody), Refusals))]
async fn mark_condition_entered_in_error(
    State(app): State<App>,
    Id(id): Id,
    command: Command<NoBody>,
) -> Result<Accepted, Refusal> {
    let name = "mark_condition_entered_in_error";
    app.change::<Condition>(name, &command.call, Action::RecordCondition, id, Condition::retract()).await
}
