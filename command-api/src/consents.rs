//! Consents: grant, withdraw.

use axum::extract::State;
use nexus_auth::policy::Action;
use nexus_domain::consent::{Consent, ConsentCommand};
use nexus_domain::fhir::Resource;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::accepted::{Accepted, AcceptedBody};
use crate::app::App;
use crate::body::{Command, Concept, Id, Moment, OptionalReason, at_or_now, coded, object, reference, resource, time};
use crate::openapi::{CommandHeaders, Refusals};
use crate::refusal::Refusal;

const SCOPE: &str = "http://terminology.hl7.org/CodeSystem/consentscope";
/// The rule that applies when the caller names none: consent is asked for before data is shared.
const OPT_IN: (&str, &str) = ("http://terminology.hl7.org/CodeSystem/v3-ActCode", "OPTIN");

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(grant_consent)).routes(routes!(withdraw_consent))
}

/// A patient's consent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({
    "category": {"system": "http://loinc.org", "code": "59284-0", "display": "Consent Document"}, "provision": "permit"
}))]
pub struct ConsentBody {
    /// What it is about.
    pub category: Concept,
    /// FHIR consent scope, such as `research`; `patient-privacy` if left out.
    pub scope: Option<String>,
    /// `permit` or `deny`; `permit` if left out.
    pub provision: Option<String>,
    pub valid_from: Option<Moment>,
    pub valid_until: Option<Moment>,
    /// When the patient gave it; now if left out.
    pub granted_at: Option<Moment>,
    /// Who keeps it: an Organization of the directory.
    pub organization: Option<Uuid>,
}

impl ConsentBody {
    fn into_resource(self, patient: Uuid) -> Result<Resource, Refusal> {
        let moment = |moment: Option<Moment>| moment.map(|Moment(at)| time(at));
        let bounded = self.valid_from.is_some() || self.valid_until.is_some();
        let period = object([("start", moment(self.valid_from)), ("end", moment(self.valid_until))]);
        let kind = Value::from(self.provision.as_deref().unwrap_or("permit"));
        resource(object([
            ("resourceType", Some(Value::from("Consent"))),
            ("status", Some(Value::from("active"))),
            ("scope", Some(coded(SCOPE, self.scope.as_deref().unwrap_or("patient-privacy")))),
            ("category", Some(json!([self.category.to_fhir()]))),
            ("patient", Some(reference("Patient", patient))),
            ("dateTime", Some(time(at_or_now(self.granted_at)))),
            ("performer", Some(json!([reference("Patient", patient)]))),
            ("organization", self.organization.map(|id| json!([reference("Organization", id)]))),
            ("policyRule", Some(coded(OPT_IN.0, OPT_IN.1))),
            ("provision", Some(object([("type", Some(kind)), ("period", bounded.then_some(period))]))),
        ]))
    }
}

/// Grant a consent.
#[utoipa::path(post, path = "/v1/patients/{id}/consents", tag = "consents",
    params(("id" = Uuid, Path, description = "The patient"), CommandHeaders), request_body = ConsentBody,
    responses((status = 201, description = "Granted", body = AcceptedBody), Refusals))]
async fn grant_consent(
    State(app): State<App>,
    Id(patient): Id,
    command: Command<ConsentBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let resource = body.into_resource(patient)?;
    app.create::<Consent>("grant_consent", &call, Action::ManageConsent, patient, resource).await
}

/// Withdraw a consent.
#[utoipa::path(post, path = "/v1/consents/{id}/withdraw", tag = "consents",
    params(("id" = Uuid, Path), CommandHeaders), request_body = OptionalReason,
    responses((status = 200, description = "Withdrawn", body = AcceptedBody), Refusals))]
async fn withdraw_consent(
    State(app): State<App>,
    Id(id): Id,
    command: Command<OptionalReason>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let action = ConsentCommand::Withdraw { reason: body.reason };
    app.change::<Consent>("withdraw_consent", &call, Action::ManageConsent, id, action).await
}
