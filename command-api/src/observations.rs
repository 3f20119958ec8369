//! Observations: record, amend, mark as entered in error.

use axum::extract::State;
use nexus_auth::policy::Action;
use nexus_domain::Record;
use nexus_domain::fhir::{Resource, patient_of};
use nexus_domain::observation::Observation;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::accepted::{Accepted, AcceptedBody};
use crate::app::App;
use crate::body::{Command, Concept, Id, NoBody, Quantity, list, object, overlay, reference, resource, text, time};
use crate::executor::Standing;
use crate::openapi::{CommandHeaders, Refusals};
use crate::refusal::Refusal;

const CATEGORY: &str = "http://terminology.hl7.org/CodeSystem/observation-category";

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(record_observation))
        .routes(routes!(amend_observation))
        .routes(routes!(mark_observation_entered_in_error))
}

/// What was observed. A panel such as a blood pressure has its values in `components`.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({
    "code": {"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"},
    "value": {"value": 72, "unit": "beats/minute", "code": "/min"}
}))]
pub struct ObservationBody {
    pub code: Concept,
    /// FHIR observation category, such as `vital-signs` or `laboratory`.
    pub category: Option<String>,
    pub value: Option<Quantity>,
    pub value_concept: Option<Concept>,
    pub value_text: Option<String>,
    #[serde(default)]
    pub components: Vec<ComponentBody>,
    /// A FHIR `dateTime`; if left out, now, or what it was before an amendment.
    pub effective_at: Option<String>,
    /// FHIR observation status; `final` if left out, `amended` for an amendment.
    pub status: Option<String>,
    pub interpretation: Option<Concept>,
    pub encounter: Option<Uuid>,
    /// Who observed it: a Practitioner of the directory.
    pub performer: Option<Uuid>,
    pub note: Option<String>,
}

/// One value of a panel.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({
    "code": {"system": "http://loinc.org", "code": "8480-6"}, "value": {"value": 118, "unit": "mmHg", "code": "mm[Hg]"}
}))]
pub struct ComponentBody {
    pub code: Concept,
    pub value: Option<Quantity>,
    pub value_concept: Option<Concept>,
    pub value_text: Option<String>,
}

impl ObservationBody {
    fn to_resource(&self, patient: Uuid) -> Result<Resource, Refusal> {
        let effective = text(self.effective_at.as_ref()).unwrap_or_else(|| time(chrono::Utc::now()));
        Ok(self.stated(patient, "final")?.with("effectiveDateTime", effective))
    }

    /// What the body states, and nothing besides.
    fn stated(&self, patient: Uuid, status: &str) -> Result<Resource, Refusal> {
        let category = self.category.as_ref().map(|code| json!([{"coding": [{"system": CATEGORY, "code": code}]}]));
        let status = self.status.as_deref().unwrap_or(status);
        resource(object([
            ("resourceType", Some(Value::from("Observation"))),
            ("status", Some(Value::from(status))),
            ("category", category),
            ("code", Some(self.code.to_fhir())),
            ("subject", Some(reference("Patient", patient))),
            ("encounter", self.encounter.map(|id| reference("Encounter", id))),
            ("effectiveDateTime", text(self.effective_at.as_ref())),
            ("performer", self.performer.map(|id| json!([reference("Practitioner", id)]))),
            ("valueQuantity", self.value.as_ref().map(Quantity::to_fhir)),
            ("valueCodeableConcept", self.value_concept.as_ref().map(Concept::to_fhir)),
            ("valueString", text(self.value_text.as_ref())),
            ("interpretation", self.interpretation.as_ref().map(|concept| json!([concept.to_fhir()]))),
            ("note", self.note.as_ref().map(|note| json!([{"text": note}]))),
            ("component", list(self.components.iter().map(ComponentBody::to_fhir))),
        ]))
    }

    /// The observation that takes the place of the one that stands: what the body says, over everything else that was
    /// stated. The result is always the body's; what surrounds it, only where the body speaks of it.
    fn replacing(&self, standing: &Standing<Observation>) -> Result<Resource, Refusal> {
        let old = standing.state.resource().ok_or(Refusal::NotFound)?;
        let patient = patient_of(old).ok_or(Refusal::Internal("an observation without a patient"))?;
        let new = self.stated(patient, "amended")?;
        let owned = |name: &str| match name {
            "status" | "code" | "interpretation" | "component" | "dataAbsentReason" => true,
            "category" | "encounter" | "performer" | "note" => new.get(name).is_some(),
            _ if name.starts_with("effective") => self.effective_at.is_some(),
            _ => name.starts_with("value"),
        };
        Ok(overlay(old, &new, owned))
    }
}

impl ComponentBody {
    fn to_fhir(&self) -> Value {
        object([
            ("code", Some(self.code.to_fhir())),
            ("valueQuantity", self.value.as_ref().map(Quantity::to_fhir)),
            ("valueCodeableConcept", self.value_concept.as_ref().map(Concept::to_fhir)),
            ("valueString", text(self.value_text.as_ref())),
        ])
    }
}

/// Record an observation.
///
/// Vital signs are checked against physiological limits and their UCUM units, components included.
#[utoipa::path(post, path = "/v1/patients/{id}/observations", tag = "observations",
    params(("id" = Uuid, Path, description = "The patient"), CommandHeaders), request_body = ObservationBody,
    responses((status = 201, description = "Recorded", body = AcceptedBody), Refusals))]
async fn record_observation(
    State(app): State<App>,
    Id(patient): Id,
    command: Command<ObservationBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let resource = body.to_resource(patient)?;
    app.create::<Observation>("record_observation", &call, Action::RecordObservation, patient, resource).await
}

/// Replace an observation by a corrected one.
///
/// Code, status and result become what the body says. Time, category, encounter, performer and note stay as they are
/// where it is silent, and so does whatever it has no member for, such as a reference range.
#[utoipa::path(post, path = "/v1/observations/{id}/amend", tag = "observations",
    params(("id" = Uuid, Path), CommandHeaders), request_body = ObservationBody,
    responses((status = 200, description = "Amended", body = AcceptedBody), Refusals))]
async fn amend_observation(
    State(app): State<App>,
    Id(id): Id,
    command: Command<ObservationBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let action = move |standing: &Standing<Observation>| body.replacing(standing).map(Observation::amend);
    app.change_by::<Observation>("amend_observation", &call, Action::RecordObservation, id, action).await
}

/// Mark an observation as entered in error.
#[utoipa::path(post, path = "/v1/observations/{id}/entered-in-error", tag = "observations",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Marked", body = AcceptedBody), Refusals))]
async fn mark_observation_entered_in_error(
    State(app): State<App>,
    Id(id): Id,
    command: Command<NoBody>,
) -> Result<Accepted, Refusal> {
    let name = "mark_observation_entered_in_error";
    app.change::<Observation>(name, &command.call, Action::RecordObservation, id, Observation::retract()).await
}
