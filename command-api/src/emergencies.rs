//! Emergency access: break the glass, review the case.

use axum::extract::State;
use chrono::{TimeDelta, Utc};
use nexus_auth::policy::Action;
use nexus_domain::emergency_access::{ACCOUNT_SYSTEM, EmergencyAccess, EmergencyAccessCommand, MINUTES_MAX};
use nexus_domain::fhir::Resource;
use nexus_web::problem::Problem;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::accepted::{Accepted, AcceptedBody};
use crate::app::App;
use crate::body::{Command, Id, object, reference, resource, time};
use crate::call::Call;
use crate::openapi::{CommandHeaders, Refusals};
use crate::refusal::Refusal;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(break_glass)).routes(routes!(review_emergency_access))
}

/// Why a record has to be opened.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"reason": "Unconscious, brought in by ambulance.", "minutes": 30}))]
pub struct BreakGlassBody {
    /// For the reviewer, in words.
    pub reason: String,
    /// For how long, from 1 to 60 minutes; 60 if left out.
    pub minutes: Option<u32>,
}

/// What a reviewer finds.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"finding": "Justified: admission through the emergency department."}))]
pub struct ReviewBody {
    pub finding: String,
}

impl BreakGlassBody {
    /// The Task that is due: somebody has to review this.
    fn into_resource(self, patient: Uuid, practitioner: Uuid, call: &Call) -> Result<Resource, Refusal> {
        let now = Utc::now();
        let minutes = self.minutes.map_or(MINUTES_MAX, i64::from);
        let end = now + TimeDelta::try_minutes(minutes).unwrap_or(TimeDelta::MAX).min(TimeDelta::days(1));
        let mut requester = reference("Practitioner", practitioner);
        requester["identifier"] = json!({"system": ACCOUNT_SYSTEM, "value": call.caller.id()});
        let code = json!({"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "BTG", "display": "break the glass"
        }]});
        resource(object([
            ("resourceType", Some(Value::from("Task"))),
            ("status", Some(Value::from("requested"))),
            ("intent", Some(Value::from("order"))),
            ("code", Some(code)),
            ("for", Some(reference("Patient", patient))),
            ("authoredOn", Some(time(now))),
            ("requester", Some(requester)),
            ("reasonCode", Some(json!({"text": self.reason}))),
            ("restriction", Some(json!({"period": {"start": time(now), "end": time(end)}}))),
        ]))
    }
}

/// Break the glass: open the record of a patient in an emergency.
///
/// For a physician who is in the directory (`fhirUser`). It opens the whole record, restricted parts and what consents hide
/// included, ends by itself, stands in the patient's timeline, and is reviewed by an auditor.
#[utoipa::path(post, path = "/v1/patients/{id}/break-glass", tag = "emergency access",
    params(("id" = Uuid, Path, description = "The patient"), CommandHeaders), request_body = BreakGlassBody,
    responses((status = 201, description = "Opened", body = AcceptedBody), Refusals))]
async fn break_glass(
    State(app): State<App>,
    Id(patient): Id,
    command: Command<BreakGlassBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    // A case that leads to nobody can't be reviewed.
    let Some(practitioner) = call.caller.practitioner() else {
        let detail = "Only a practitioner of the directory (claim fhirUser) may open a record in an emergency.";
        return Err(Problem::forbidden().with_detail(detail).into());
    };
    let resource = body.into_resource(patient, practitioner, &call)?;
    let open = |resource| EmergencyAccessCommand::Open { resource };
    app.create_by::<EmergencyAccess>("break_glass", &call, Action::BreakGlass, patient, resource, open).await
}

/// Review an emergency access: close the case with a finding.
///
/// Not by whoever opened it. What is left of the time ends.
#[utoipa::path(post, path = "/v1/emergency-accesses/{id}/review", tag = "emergency access",
    params(("id" = Uuid, Path), CommandHeaders), request_body = ReviewBody,
    responses((status = 200, description = "Reviewed", body = AcceptedBody), Refusals))]
async fn review_emergency_access(
    State(app): State<App>,
    Id(id): Id,
    command: Command<ReviewBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let reviewer = call.caller.id().to_owned();
    let action = EmergencyAccessCommand::Review { finding: body.finding, reviewer };
    app.change::<EmergencyAccess>("review_emergency_access", &call, Action::ReviewEmergency, id, action).await
}
