//! Alerts: how urgently somebody has to look after a patient during a stay.

use axum::extract::State;
use nexus_auth::policy::Action;
use nexus_domain::alert::{Alert, RISK_SYSTEM, SCORE_SYSTEM, UNDECIDED_SYSTEM};
use nexus_domain::early_warning::{Parameter, Risk};
use nexus_domain::fhir::{Resource, derived_id};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::accepted::{Accepted, AcceptedBody};
use crate::app::App;
use crate::body::{Command, Id, Moment, coded, object, reference, resource, time};
use crate::openapi::{CommandHeaders, Refusals};
use crate::refusal::Refusal;

const CATEGORY: (&str, &str) = ("http://terminology.hl7.org/CodeSystem/flag-category", "clinical");

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(assess_alert))
}

/// How urgent it is (chart 2 of NEWS2).
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// Nobody has to come: clears an alert.
    Low,
    /// A 3 in one part of the score.
    LowMedium,
    /// 5 or 6 in all.
    Medium,
    /// 7 and more.
    High,
}

/// A part of the score.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Undecided {
    Respiration,
    Saturation,
    Oxygen,
    BloodPressure,
    Pulse,
    Consciousness,
    Temperature,
}

/// What was found.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({
    "encounter": "018f5c1e-0d5b-7c3a-9a51-4b8a4f1e2d3c", "risk": "medium", "score": 6, "assessedAt": "2026-11-24T08:00:00Z"
}))]
pub struct AlertBody {
    /// The stay that it is about.
    pub encounter: Uuid,
    pub risk: Urgency,
    /// The score behind it, from 0 to 20; the least that it can be, if anything is undecided.
    #[schema(minimum = 0, maximum = 20)]
    pub score: u8,
    /// What the score leaves out: parts that were not measured, or of which only bounds are known.
    #[serde(default)]
    pub undecided: Vec<Undecided>,
    /// When what was found was written down.
    pub assessed_at: Moment,
}

impl From<Urgency> for Risk {
    fn from(urgency: Urgency) -> Self {
        match urgency {
            Urgency::Low => Self::Low,
            Urgency::LowMedium => Self::LowMedium,
            Urgency::Medium => Self::Medium,
            Urgency::High => Self::High,
        }
    }
}

impl From<Undecided> for Parameter {
    fn from(part: Undecided) -> Self {
        match part {
            Undecided::Respiration => Self::Respiration,
            Undecided::Saturation => Self::Saturation,
            Undecided::Oxygen => Self::Oxygen,
            Undecided::BloodPressure => Self::BloodPressure,
            Undecided::Pulse => Self::Pulse,
            Undecided::Consciousness => Self::Consciousness,
            Undecided::Temperature => Self::Temperature,
        }
    }
}

impl AlertBody {
    /// What was found, as codes; each undecided part once.
    fn code(&self) -> Value {
        let score = self.score.to_string();
        let undecided =
            Parameter::ALL.into_iter().filter(|part| self.undecided.iter().any(|it| Parameter::from(*it) == *part));
        let undecided: Vec<&str> = undecided.map(Parameter::as_str).collect();
        let told = [(RISK_SYSTEM, Risk::from(self.risk).as_str()), (SCORE_SYSTEM, score.as_str())];
        let codings = told.into_iter().chain(undecided.iter().map(|part| (UNDECIDED_SYSTEM, *part)));
        let codings: Vec<Value> = codings.map(|(system, code)| json!({"system": system, "code": code})).collect();
        let text = match undecided.is_empty() {
            true => format!("NEWS2 score {score}"),
            false => format!("NEWS2 score of at least {score}; not decided: {}", undecided.join(", ")),
        };
        json!({"coding": codings, "text": text})
    }

    /// The Flag of the stay: there is one, whatever happens to it.
    fn into_resource(self, patient: Uuid) -> Result<Resource, Refusal> {
        let risk = Risk::from(self.risk);
        let is_over = risk == Risk::Low;
        let code = self.code();
        let at = time(self.assessed_at.0);
        let period = object([("start", Some(at.clone())), ("end", is_over.then_some(at))]);
        resource(object([
            ("resourceType", Some(Value::from("Flag"))),
            ("id", Some(json!(derived_id(&["alert", &self.encounter.to_string()])))),
            ("status", Some(Value::from(if is_over { "inactive" } else { "active" }))),
            ("category", Some(json!([coded(CATEGORY.0, CATEGORY.1)]))),
            ("code", Some(code)),
            ("subject", Some(reference("Patient", patient))),
            ("period", Some(period)),
            ("encounter", Some(reference("Encounter", self.encounter))),
        ]))
    }
}

/// State how urgent a patient's condition is during a stay.
///
/// There is one alert for each stay. This raises it, escalates it, eases it or clears it, whichever that is; where it stands so
/// already, nothing is stored.
#[utoipa::path(post, path = "/v1/patients/{id}/alerts", tag = "alerts",
    params(("id" = Uuid, Path, description = "The patient"), CommandHeaders), request_body = AlertBody,
    responses((status = 201, description = "Raised for the first time", body = AcceptedBody),
        (status = 200, description = "Changed, or as it stands", body = AcceptedBody), Refusals))]
async fn assess_alert(
    State(app): State<App>,
    Id(patient): Id,
    command: Command<AlertBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let resource = body.into_resource(patient)?;
    app.create::<Alert>("assess_alert", &call, Action::ManageAlert, patient, resource).await
}
