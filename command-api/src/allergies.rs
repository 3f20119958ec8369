//! Allergies and intolerances: record, refute, mark as entered in error.

use axum::extract::State;
use nexus_auth::policy::Action;
use nexus_domain::Record;
use nexus_domain::allergy::{Allergy, AllergyCommand};
use nexus_domain::fhir::Resource;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::accepted::{Accepted, AcceptedBody};
use crate::app::App;
use crate::body::{Command, Concept, Id, NoBody, coded, list, object, reference, resource, text, time};
use crate::openapi::{CommandHeaders, Refusals};
use crate::refusal::Refusal;

const CLINICAL: &str = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical";
const VERIFICATION: &str = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification";

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(record_allergy))
        .routes(routes!(refute_allergy))
        .routes(routes!(mark_allergy_entered_in_error))
}

/// An allergy or intolerance.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({
    "code": {"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "7980", "display": "Penicillin G"},
    "categories": ["medication"], "criticality": "high"
}))]
pub struct AllergyBody {
    /// The substance.
    pub code: Concept,
    /// `allergy` or `intolerance`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Of `food`, `medication`, `environment`, `biologic`.
    #[serde(default)]
    pub categories: Vec<String>,
    /// `low`, `high` or `unable-to-assess`.
    pub criticality: Option<String>,
    /// FHIR verification status; `confirmed` if left out.
    pub verification_status: Option<String>,
    /// A FHIR `dateTime`, which may be partial.
    pub onset: Option<String>,
    pub encounter: Option<Uuid>,
    #[serde(default)]
    pub reactions: Vec<ReactionBody>,
    pub note: Option<String>,
}

/// What the substance did.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ReactionBody {
    pub manifestation: Concept,
    /// `mild`, `moderate` or `severe`.
    pub severity: Option<String>,
}

impl AllergyBody {
    fn into_resource(self, patient: Uuid) -> Result<Resource, Refusal> {
        let verification = self.verification_status.as_deref().unwrap_or("confirmed");
        resource(object([
            ("resourceType", Some(Value::from("AllergyIntolerance"))),
            ("clinicalStatus", Some(coded(CLINICAL, "active"))),
            ("verificationStatus", Some(coded(VERIFICATION, verification))),
            ("type", text(self.kind.as_ref())),
            ("category", list(self.categories.iter().map(|category| Value::from(category.as_str())))),
            ("criticality", text(self.criticality.as_ref())),
            ("code", Some(self.code.to_fhir())),
            ("patient", Some(reference("Patient", patient))),
            ("encounter", self.encounter.map(|id| reference("Encounter", id))),
            ("onsetDateTime", text(self.onset.as_ref())),
            ("recordedDate", Some(time(chrono::Utc::now()))),
            ("note", self.note.as_ref().map(|note| json!([{"text": note}]))),
            ("reaction", list(self.reactions.iter().map(ReactionBody::to_fhir))),
        ]))
    }
}

impl ReactionBody {
    fn to_fhir(&self) -> Value {
        object([
            ("manifestation", Some(json!([self.manifestation.to_fhir()]))),
            ("severity", text(self.severity.as_ref())),
        ])
    }
}

/// Record an allergy. Prescriptions are checked against it from then on.
#[utoipa::path(post, path = "/v1/patients/{id}/allergies", tag = "allergies",
    params(("id" = Uuid, Path, description = "The patient"), CommandHeaders), request_body = AllergyBody,
    responses((status = 201, description = "Recorded", body = AcceptedBody), Refusals))]
async fn record_allergy(
    State(app): State<App>,
    Id(patient): Id,
    command: Command<AllergyBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let resource = body.into_resource(patient)?;
    app.create::<Allergy>("record_allergy", &call, Action::RecordAllergy, patient, resource).await
}

/// State that the patient does not have an allergy.
#[utoipa::path(post, path = "/v1/allergies/{id}/refute", tag = "allergies",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Refuted", body = AcceptedBody), Refusals))]
async fn refute_allergy(State(app): State<App>, Id(id): Id, command: Command<NoBody>) -> Result<Accepted, Refusal> {
    let action = AllergyCommand::Refute;
    app.change::<Allergy>("refute_allergy", &command.call, Action::RecordAllergy, id, action).await
}

/// Mark an allergy as entered in error.
#[utoipa::path(post, path = "/v1/allergies/{id}/entered-in-error", tag = "allergies",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Marked", body = AcceptedBody), Refusals))]
async fn mark_allergy_entered_in_error(
    State(app): State<App>,
    Id(id): Id,
    command: Command<NoBody>,
) -> Result<Accepted, Refusal> {
    let name = "mark_allergy_entered_in_error";
    app.change::<Allergy>(name, &command.call, Action::RecordAllergy, id, Allergy::retract()).await
}
