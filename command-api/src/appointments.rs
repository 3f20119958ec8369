//! Appointments: book, confirm, check in, cancel, no-show.

use axum::extract::State;
use nexus_auth::policy::Action;
use nexus_domain::Record;
use nexus_domain::appointment::{Appointment, AppointmentCommand};
use nexus_domain::fhir::Resource;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::accepted::{Accepted, AcceptedBody};
use crate::app::App;
use crate::body::{Command, Concept, Id, Moment, NoBody, OptionalReason, object, reference, resource, text, time};
use crate::openapi::{CommandHeaders, Refusals};
use crate::refusal::Refusal;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(book_appointment))
        .routes(routes!(confirm_appointment))
        .routes(routes!(check_in_appointment))
        .routes(routes!(cancel_appointment))
        .routes(routes!(mark_no_show))
        .routes(routes!(mark_reminder_due))
        .routes(routes!(mark_appointment_entered_in_error))
}

/// How far an appointment is agreed on (FHIR `AppointmentStatus`, as far as one can be made with it).
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BookingStatus {
    /// Nobody has agreed yet.
    Proposed,
    /// Some have to agree.
    Pending,
    /// Agreed on.
    #[default]
    Booked,
}

/// An appointment.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({
    "start": "2026-12-01T09:00:00Z", "end": "2026-12-01T09:30:00Z",
    "practitioners": ["018f5c1e-0d5b-7c3a-9a51-4b8a4f1e2d3c"]
}))]
pub struct AppointmentBody {
    pub start: Moment,
    pub end: Moment,
    /// `booked` if left out; what is proposed or pending is confirmed later.
    #[serde(default)]
    pub status: BookingStatus,
    /// Practitioners of the directory, whose time it takes.
    pub practitioners: Vec<Uuid>,
    /// Where: a Location of the directory.
    pub location: Option<Uuid>,
    pub service_type: Option<Concept>,
    pub reason: Option<Concept>,
    pub description: Option<String>,
}

impl AppointmentBody {
    fn into_resource(self, patient: Uuid) -> Result<Resource, Refusal> {
        let (status, participation) = match self.status {
            BookingStatus::Proposed => ("proposed", "needs-action"),
            BookingStatus::Pending => ("pending", "needs-action"),
            BookingStatus::Booked => ("booked", "accepted"),
        };
        let actor = |resource_type, id| json!({"actor": reference(resource_type, id), "status": participation});
        let practitioners = self.practitioners.iter().map(|id| actor("Practitioner", *id));
        let participants: Vec<Value> = std::iter::once(actor("Patient", patient))
            .chain(practitioners)
            .chain(self.location.map(|id| actor("Location", id)))
            .collect();
        resource(object([
            ("resourceType", Some(Value::from("Appointment"))),
            ("status", Some(Value::from(status))),
            ("serviceType", self.service_type.as_ref().map(|kind| json!([kind.to_fhir()]))),
            ("reasonCode", self.reason.as_ref().map(|reason| json!([reason.to_fhir()]))),
            ("description", text(self.description.as_ref())),
            ("start", Some(time(self.start.0))),
            ("end", Some(time(self.end.0))),
            ("created", Some(time(chrono::Utc::now()))),
            ("participant", Some(Value::Array(participants))),
        ]))
    }
}

/// Book an appointment.
///
/// A practitioner's time can be booked once: an overlap is refused with `claim-taken`, rule `practitioner-slot`.
#[utoipa::path(post, path = "/v1/patients/{id}/appointments", tag = "appointments",
    params(("id" = Uuid, Path, description = "The patient"), CommandHeaders), request_body = AppointmentBody,
    responses((status = 201, description = "Booked", body = AcceptedBody), Refusals))]
async fn book_appointment(
    State(app): State<App>,
    Id(patient): Id,
    command: Command<AppointmentBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let resource = body.into_resource(patient)?;
    let book = |resource| AppointmentCommand::Book { resource };
    app.create_by::<Appointment>("book_appointment", &call, Action::ManageAppointment, patient, resource, book).await
}

/// Confirm an appointment.
#[utoipa::path(post, path = "/v1/appointments/{id}/confirm", tag = "appointments",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Confirmed", body = AcceptedBody), Refusals))]
async fn confirm_appointment(
    State(app): State<App>,
    Id(id): Id,
    command: Command<NoBody>,
) -> Result<Accepted, Refusal> {
    let action = AppointmentCommand::Confirm;
    app.change::<Appointment>("confirm_appointment", &command.call, Action::ManageAppointment, id, action).await
}

/// Check a patient in: they are here for the appointment.
#[utoipa::path(post, path = "/v1/appointments/{id}/check-in", tag = "appointments",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Checked in", body = AcceptedBody), Refusals))]
async fn check_in_appointment(
    State(app): State<App>,
    Id(id): Id,
    command: Command<NoBody>,
) -> Result<Accepted, Refusal> {
    let action = AppointmentCommand::CheckIn;
    app.change::<Appointment>("check_in_appointment", &command.call, Action::ManageAppointment, id, action).await
}

/// Cancel an appointment; the practitioner's time is free again.
#[utoipa::path(post, path = "/v1/appointments/{id}/cancel", tag = "appointments",
    params(("id" = Uuid, Path), CommandHeaders), request_body = OptionalReason,
    responses((status = 200, description = "Cancelled", body = AcceptedBody), Refusals))]
async fn cancel_appointment(
    State(app): State<App>,
    Id(id): Id,
    command: Command<OptionalReason>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let action = AppointmentCommand::Cancel { reason: body.reason };
    app.change::<Appointment>("cancel_appointment", &call, Action::ManageAppointment, id, action).await
}

/// Mark that the patient did not come.
#[utoipa::path(post, path = "/v1/appointments/{id}/no-show", tag = "appointments",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Marked", body = AcceptedBody), Refusals))]
async fn mark_no_show(State(app): State<App>, Id(id): Id, command: Command<NoBody>) -> Result<Accepted, Refusal> {
    let action = AppointmentCommand::MarkNoShow;
    app.change::<Appointment>("mark_no_show", &command.call, Action::MarkNoShow, id, action).await
}

/// Mark that it is time to remind the patient: once for each time that the appointment is moved to.
#[utoipa::path(post, path = "/v1/appointments/{id}/reminder-due", tag = "appointments",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Marked", body = AcceptedBody), Refusals))]
async fn mark_reminder_due(State(app): State<App>, Id(id): Id, command: Command<NoBody>) -> Result<Accepted, Refusal> {
    let action = AppointmentCommand::Remind;
    app.change::<Appointment>("mark_reminder_due", &command.call, Action::RemindAppointment, id, action).await
}

/// Mark an appointment as entered in error.
#[utoipa::path(post, path = "/v1/appointments/{id}/entered-in-error", tag = "appointments",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Marked", body = AcceptedBody), Refusals))]
async fn mark_appointment_entered_in_error(
    State(app): State<App>,
    Id(id): Id,
    command: Command<NoBody>,
) -> Result<Accepted, Refusal> {
    let (name, action) = ("mark_appointment_entered_in_error", Appointment::retract());
    app.change::<Appointment>(name, &command.call, Action::ManageAppointment, id, action).await
}
