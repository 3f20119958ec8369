//! The directory: practitioners, organizations, locations and the like. Facts about no patient, such as devices that nobody
//! has, groups, and observations about places.

use axum::extract::State;
use nexus_auth::policy::Action;
use nexus_domain::Record;
use nexus_domain::directory_entry::DirectoryEntry;
use nexus_web::json::JsonLimits;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::accepted::{Accepted, AcceptedBody};
use crate::app::App;
use crate::body::{Command, NoBody, ResourceBody, TypedId};
use crate::executor::Standing;
use crate::fhir::RESOURCE_BYTES_MAX;
use crate::openapi::{CommandHeaders, Refusals};
use crate::records::{filed_as, is_of_type};
use crate::refusal::Refusal;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register_directory_entry))
        .routes(routes!(update_directory_entry))
        .routes(routes!(retire_directory_entry))
        .layer(JsonLimits::of_bytes(RESOURCE_BYTES_MAX).layer())
}

/// Register a directory entry.
///
/// A business identifier (system and value) leads to the entry as long as no other one of its type bears it.
#[utoipa::path(post, path = "/v1/directory", tag = "directory", params(CommandHeaders), request_body(
    content = ResourceBody, example = json!({
        "resourceType": "Practitioner",
        "identifier": [{"system": "http://hl7.org/fhir/sid/us-npi", "value": "9999999999"}],
        "name": [{"family": "Example", "given": ["Ada"]}]
    })), responses((status = 201, description = "Registered", body = AcceptedBody), Refusals))]
async fn register_directory_entry(State(app): State<App>, command: Command<ResourceBody>) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let mut resource = body.into_resource()?;
    filed_as::<DirectoryEntry>(&mut resource, None)?;
    let (name, own) = ("register_directory_entry", Uuid::nil());
    let answer = app.create::<DirectoryEntry>(name, &call, Action::ManageDirectory, own, resource).await;
    app.references.forget();
    answer
}

/// Replace a directory entry.
#[utoipa::path(put, path = "/v1/directory/{type}/{id}", tag = "directory",
    params(("type" = String, Path, description = "FHIR resource type"), ("id" = Uuid, Path), CommandHeaders),
    request_body(content = ResourceBody, example = json!({
        "resourceType": "Practitioner",
        "identifier": [{"system": "http://hl7.org/fhir/sid/us-npi", "value": "9999999999"}],
        "name": [{"family": "Example", "given": ["Ada"]}]
    })), responses((status = 200, description = "Updated", body = AcceptedBody), Refusals))]
async fn update_directory_entry(
    State(app): State<App>,
    path: TypedId,
    command: Command<ResourceBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let mut resource = body.into_resource()?;
    filed_as::<DirectoryEntry>(&mut resource, Some(&path))?;
    let action = move |standing: &Standing<DirectoryEntry>| {
        is_of_type(standing, resource.resource_type()).map(|()| DirectoryEntry::amend(resource.clone()))
    };
    let name = "update_directory_entry";
    let answer = app.change_by::<DirectoryEntry>(name, &call, Action::ManageDirectory, path.id, action).await;
    app.references.forget();
    answer
}

/// Retire a directory entry.
#[utoipa::path(post, path = "/v1/directory/{type}/{id}/retire", tag = "directory",
    params(("type" = String, Path, description = "FHIR resource type"), ("id" = Uuid, Path), CommandHeaders),
    request_body = NoBody, responses((status = 200, description = "Retired", body = AcceptedBody), Refusals))]
async fn retire_directory_entry(
    State(app): State<App>,
    path: TypedId,
    command: Command<NoBody>,
) -> Result<Accepted, Refusal> {
    let TypedId { resource_type, id } = path;
    let action = move |standing: &Standing<DirectoryEntry>| {
        is_of_type(standing, &resource_type).map(|()| DirectoryEntry::retract())
    };
    app.change_by::<DirectoryEntry>("retire_directory_entry", &command.call, Action::ManageDirectory, id, action).await
}
