//! Forgetting a patient (GDPR Art. 17): one asks, another approves; a legal hold wins.

use axum::extract::State;
use nexus_auth::policy::Action;
use nexus_domain::patient::{Patient, PatientCommand};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::accepted::{Accepted, AcceptedBody};
use crate::app::App;
use crate::body::{Command, Id, NoBody, Reason};
use crate::openapi::{CommandHeaders, Refusals};
use crate::refusal::Refusal;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(place_legal_hold))
        .routes(routes!(release_legal_hold))
        .routes(routes!(request_erasure))
        .routes(routes!(withdraw_erasure))
        .routes(routes!(approve_erasure))
}

/// Say that a patient's data has to be kept.
///
/// As long as the hold stands, no erasure of this patient is approved.
#[utoipa::path(post, path = "/v1/patients/{id}/legal-hold", tag = "erasure",
    params(("id" = Uuid, Path), CommandHeaders), request_body = Reason,
    responses((status = 200, description = "Held", body = AcceptedBody), Refusals))]
async fn place_legal_hold(State(app): State<App>, Id(id): Id, command: Command<Reason>) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let action = PatientCommand::PlaceLegalHold { by: call.metadata.actor.clone(), reason: body.reason };
    app.change::<Patient>("place_legal_hold", &call, Action::ManageLegalHold, id, action).await
}

/// Say that a patient's data need not be kept any longer.
#[utoipa::path(post, path = "/v1/patients/{id}/legal-hold/release", tag = "erasure",
    params(("id" = Uuid, Path), CommandHeaders), request_body = Reason,
    responses((status = 200, description = "Released", body = AcceptedBody), Refusals))]
async fn release_legal_hold(State(app): State<App>, Id(id): Id, command: Command<Reason>) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let action = PatientCommand::ReleaseLegalHold { by: call.metadata.actor.clone(), reason: body.reason };
    app.change::<Patient>("release_legal_hold", &call, Action::ManageLegalHold, id, action).await
}

/// Ask for the erasure of everything about a patient.
///
/// Somebody else has to approve it within 30 days; after that the request has lapsed.
#[utoipa::path(post, path = "/v1/patients/{id}/erasure", tag = "erasure",
    params(("id" = Uuid, Path), CommandHeaders), request_body = Reason,
    responses((status = 200, description = "Requested", body = AcceptedBody), Refusals))]
async fn request_erasure(State(app): State<App>, Id(id): Id, command: Command<Reason>) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let action = PatientCommand::RequestErasure { by: call.metadata.actor.clone(), reason: body.reason };
    app.change::<Patient>("request_erasure", &call, Action::RequestErasure, id, action).await
}

/// Take a request for erasure back.
#[utoipa::path(post, path = "/v1/patients/{id}/erasure/withdraw", tag = "erasure",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Withdrawn", body = AcceptedBody), Refusals))]
async fn withdraw_erasure(State(app): State<App>, Id(id): Id, command: Command<NoBody>) -> Result<Accepted, Refusal> {
    let call = command.call;
    let action = PatientCommand::WithdrawErasure { by: call.metadata.actor.clone() };
    app.change::<Patient>("withdraw_erasure", &call, Action::RequestErasure, id, action).await
}

/// Approve the erasure of everything about a patient.
///
/// Not by whoever asked for it, and not under a legal hold. There is no way back: the patient's key is destroyed, and with
/// it everything that it sealed. From then on every route answers as if the patient had never been (404). The read door has
/// the receipt under `/v1/patients/{id}/erasure`.
#[utoipa::path(post, path = "/v1/patients/{id}/erasure/approve", tag = "erasure",
    params(("id" = Uuid, Path), CommandHeaders), request_body = NoBody,
    responses((status = 200, description = "Erased", body = AcceptedBody), Refusals))]
async fn approve_erasure(State(app): State<App>, Id(id): Id, command: Command<NoBody>) -> Result<Accepted, Refusal> {
    let call = command.call;
    let action = PatientCommand::ApproveErasure { by: call.metadata.actor.clone() };
    let accepted = app.change::<Patient>("approve_erasure", &call, Action::ApproveErasure, id, action).await?;
    app.forgetting.finish_soon(id).await;
    Ok(accepted)
}
