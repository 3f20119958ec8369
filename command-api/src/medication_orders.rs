//! Medication orders: prescribe, hold, resume, discontinue, complete.

use axum::extract::State;
use nexus_auth::policy::Action;
use nexus_domain::Record;
use nexus_domain::fhir::Resource;
use nexus_domain::medication_order::{MedicationOrder, MedicationOrderCommand};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::accepted::{Accepted, AcceptedBody};
use crate::app::App;
use crate::body::{Command, Concept, Id, NoBody, Quantity, Reason, list, object, reference, resource, text, time};
use crate::openapi::{CommandHeaders, Refusals};
use crate::refusal::Refusal;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(prescribe_medication))
        .routes(routes!(hold_medication_order))
        .routes(routes!(resume_medication_order))
        .routes(routes!(discontinue_medication_order))
        .routes(routes!(complete_medication_order))
        .routes(routes!(mark_medication_order_entered_in_error))
}

/// A prescription.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({
    "medication": {"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "860975", "display": "Metformin 500 MG"},
    "dosages": [{"text": "One tablet twice a day"}]
}))]
pub struct PrescriptionBody {
    pub medication: Concept,
    #[serde(default)]
    pub dosages: Vec<DosageBody>,
    pub reason: Option<Concept>,
    pub encounter: Option<Uuid>,
    /// Who prescribes: a Practitioner of the directory.
    pub requester: Option<Uuid>,
    pub note: Option<String>,
    /// Why it is prescribed in spite of an active allergy to it.
    pub override_reason: Option<String>,
}

/// How the medication is taken.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DosageBody {
    pub text: Option<String>,
    pub route: Option<Concept>,
    pub dose: Option<Quantity>,
    pub as_needed: Option<bool>,
}

impl PrescriptionBody {
    fn to_resource(&self, patient: Uuid) -> Result<Resource, Refusal> {
        resource(object([
            ("resourceType", Some(Value::from("MedicationRequest"))),
            ("status", Some(Value::from("active"))),
            ("intent", Some(Value::from("order"))),
            ("medicationCodeableConcept", Some(self.medication.to_fhir())),
            ("subject", Some(reference("Patient", patient))),
            ("encounter", self.encounter.map(|id| reference("Encounter", id))),
            ("authoredOn", Some(time(chrono::Utc::now()))),
            ("requester", self.requester.map(|id| reference("Practitioner", id))),
            ("reasonCode", self.reason.as_ref().map(|reason| json!([reason.to_fhir()]))),
            ("note", self.note.as_ref().map(|note| json!([{"text": note}]))),
            ("dosageInstruction", list(self.dosages.iter().map(DosageBody::to_fhir))),
        ]))
    }
}

impl DosageBody {
    fn to_fhir(&self) -> Value {
        let dose = self.dose.as_ref().map(|dose| json!([{"doseQuantity": dose.to_fhir()}]));
        object([
            ("text", text(self.text.as_ref())),
            ("asNeededBoolean", self.as_needed.map(Value::from)),
            ("route", self.route.as_ref().map(Concept::to_fhir)),
            ("doseAndRate", dose),
        ])
    }
}

/// Prescribe a medication.
///
/// Refused on an active allergy to it (`active-allergy`), unless `overrideReason` says why. The append refuses, and the
/// decision is taken again, if an allergy is recorded at the same moment.
#[utoipa::path(post, path = "/v1/patients/{id}/medication-orders", tag = "medication orders",
    params(("id" = Uuid, Path, description = "The patient"), CommandHeaders), request_body = PrescriptionBody,
    responses((status = 201, description = "Prescribed", body = AcceptedBody), Refusals))]
async fn prescribe_medication(
    State(app): State<App>,
    Id(patient): Id,
    command: Command<PrescriptionBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let resource = body.to_resource(patient)?;
    let prescribe = |resource| MedicationOrderCommand::Prescribe {
        resource,
        override_reason: body.override_reason.clone(),
        active_allergies: Vec::new(),
    };
    app.create_by::<MedicationOrder>("prescribe_medication", &call, Action::Prescribe, patient, resource, prescribe)
        .await
}

/// Hold a medication order.
#[utoipa::path(post, path = "/v1/medication-orders/{id}/hold", tag = "medication orders",
    params(("id" = Uuid, Path), CommandHeaders), request_body = Reason,
    responses((status = 200, description = "On hold", body = AcceptedBody), Refusals))]
async fn hold_medication_order(
    State(app): State<App>,
    Id(id): Id,
    command: Command<Reason>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let action = MedicationOrderCommand::Hold { reason: body.reason };
    app.change::<MedicationOrder>("hold_medication_order", &call, Action::ManageMedication, id, action).await
}

/// Resume a medication order that is on hold.
#[utoipa::path(post, path = "/v1/medication-orders/{id}/resume", tag = "medication orders",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Active", body = AcceptedBody), Refusals))]
async fn resume_medication_order(
    State(app): State<App>,
    Id(id): Id,
    command: Command<NoBody>,
) -> Result<Accepted, Refusal> {
    let (name, action) = ("resume_medication_order", MedicationOrderCommand::Resume);
    app.change::<MedicationOrder>(name, &command.call, Action::ManageMedication, id, action).await
}

/// Discontinue a medication order.
#[utoipa::path(post, path = "/v1/medication-orders/{id}/discontinue", tag = "medication orders",
    params(("id" = Uuid, Path), CommandHeaders), request_body = Reason,
    responses((status = 200, description = "Discontinued", body = AcceptedBody), Refusals))]
async fn discontinue_medication_order(
    State(app): State<App>,
    Id(id): Id,
    command: Command<Reason>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let action = MedicationOrderCommand::Discontinue { reason: body.reason };
    app.change::<MedicationOrder>("discontinue_medication_order", &call, Action::ManageMedication, id, action).await
}

/// Complete a medication order: it was carried out as ordered.
#[utoipa::path(post, path = "/v1/medication-orders/{id}/complete", tag = "medication orders",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Completed", body = AcceptedBody), Refusals))]
async fn complete_medication_order(
    State(app): State<App>,
    Id(id): Id,
    command: Command<NoBody>,
) -> Result<Accepted, Refusal> {
    let (name, action) = ("complete_medication_order", MedicationOrderCommand::Complete);
    app.change::<MedicationOrder>(name, &command.call, Action::ManageMedication, id, action).await
}

/// Mark a medication order as entered in error.
#[utoipa::path(post, path = "/v1/medication-orders/{id}/entered-in-error", tag = "medication orders",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Marked", body = AcceptedBody), Refusals))]
async fn mark_medication_order_entered_in_error(
    State(app): State<App>,
    Id(id): Id,
    command: Command<NoBody>,
) -> Result<Accepted, Refusal> {
    let (name, action) = ("mark_medication_order_entered_in_error", MedicationOrder::retract());
    app.change::<MedicationOrder>(name, &command.call, Action::ManageMedication, id, action).await
}
