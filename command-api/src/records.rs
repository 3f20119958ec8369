//! Any other FHIR R4 resource of a patient: file, amend, retract.

use axum::extract::State;
use nexus_auth::policy::Action;
use nexus_domain::clinical_record::ClinicalRecord;
use nexus_domain::fhir::{Homeless, Resource, Whose, whose};
use nexus_domain::types::FormError;
use nexus_domain::{Record, homes};
use nexus_web::json::JsonLimits;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::accepted::{Accepted, AcceptedBody};
use crate::app::App;
use crate::body::{Command, Id, NoBody, ResourceBody, TypedId};
use crate::executor::Standing;
use crate::fhir::RESOURCE_BYTES_MAX;
use crate::openapi::{CommandHeaders, Refusals};
use crate::refusal::{Fault, Refusal};

pub fn routes() -> OpenApiRouter<App> {
    let routes = OpenApiRouter::new().routes(routes!(file_record)).routes(routes!(amend_record));
    routes.routes(routes!(retract_record)).layer(JsonLimits::of_bytes(RESOURCE_BYTES_MAX).layer())
}

/// The resource belongs to this aggregate, under this type and id if they are given by the path.
pub(crate) fn filed_as<A: Record>(resource: &mut Resource, path: Option<&TypedId>) -> Result<(), Refusal> {
    let wrong = |pointer, detail| Err(Refusal::Faults(vec![Fault::invalid(pointer, "wrong-resource-type", detail)]));
    if homes(resource.resource_type()).all(|home| home != A::TYPE) {
        return wrong("/resourceType", "Resources of this type are taken by another route.");
    }
    let Some(path) = path else { return Ok(()) };
    if path.resource_type != resource.resource_type() {
        return wrong("/resourceType", "The path names another resource type.");
    }
    if resource.get("id").is_some() && resource.id() != Some(path.id) {
        return Err(Refusal::Faults(vec![Fault::invalid("/id", "wrong-id", "The path names another id.")]));
    }
    resource.set_id(path.id);
    Ok(())
}

/// The aggregate under this id is a resource of the type in the path.
pub(crate) fn is_of_type<A: Record>(standing: &Standing<A>, resource_type: &str) -> Result<(), Refusal> {
    let of_type = standing.state.resource().is_some_and(|resource| resource.resource_type() == resource_type);
    if of_type { Ok(()) } else { Err(Refusal::NotFound) }
}

/// A resource that names nobody and nothing is filed as this patient's.
fn is_about(resource: &Resource, patient: Uuid) -> Result<(), Refusal> {
    match whose(resource) {
        Whose::Patient(named) if named != patient => {
            let detail = "The resource names another patient.";
            Err(Refusal::Faults(vec![Fault::invalid("", "subject-changed", detail)]))
        }
        Whose::About(_) => {
            let detail = "The resource says that it is about something else than a patient.";
            Err(Refusal::Faults(vec![Fault::invalid("", "subject-changed", detail)]))
        }
        Whose::Unknown(homeless) if homeless != Homeless::Unnamed => {
            Err(Refusal::Faults(vec![Fault::of(&FormError::from(homeless))]))
        }
        _ => Ok(()),
    }
}

/// File a resource of a patient.
#[utoipa::path(post, path = "/v1/patients/{id}/records", tag = "records",
    params(("id" = Uuid, Path, description = "The patient"), CommandHeaders),
    request_body(content = ResourceBody, example = json!({
        "resourceType": "Procedure", "status": "completed",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "80146002", "display": "Appendectomy"}]}
    })),
    responses((status = 201, description = "Filed", body = AcceptedBody), Refusals))]
async fn file_record(
    State(app): State<App>,
    Id(patient): Id,
    command: Command<ResourceBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let mut resource = body.into_resource()?;
    filed_as::<ClinicalRecord>(&mut resource, None)?;
    is_about(&resource, patient)?;
    app.create::<ClinicalRecord>("file_record", &call, Action::FileRecord, patient, resource).await
}

/// Replace a filed resource by a corrected one.
#[utoipa::path(put, path = "/v1/records/{type}/{id}", tag = "records",
    params(("type" = String, Path, description = "FHIR resource type"), ("id" = Uuid, Path), CommandHeaders),
    request_body(content = ResourceBody, example = json!({
        "resourceType": "Procedure", "status": "completed",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "80146002", "display": "Appendectomy"}]},
        "subject": {"reference": "Patient/018f5c1e-0d5b-7c3a-9a51-4b8a4f1e2d3c"}
    })), responses((status = 200, description = "Amended", body = AcceptedBody), Refusals))]
async fn amend_record(
    State(app): State<App>,
    path: TypedId,
    command: Command<ResourceBody>,
) -> Result<Accepted, Refusal> {
    let Command { call, body } = command;
    let mut resource = body.into_resource()?;
    filed_as::<ClinicalRecord>(&mut resource, Some(&path))?;
    let action = move |standing: &Standing<ClinicalRecord>| {
        is_of_type(standing, resource.resource_type()).map(|()| ClinicalRecord::amend(resource.clone()))
    };
    app.change_by::<ClinicalRecord>("amend_record", &call, Action::FileRecord, path.id, action).await
}

/// Take a filed resource back.
#[utoipa::path(post, path = "/v1/records/{type}/{id}/retract", tag = "records",
    params(("type" = String, Path, description = "FHIR resource type"), ("id" = Uuid, Path), CommandHeaders),
    request_body = NoBody, responses((status = 200, description = "Retracted", body = AcceptedBody), Refusals))]
async fn retract_record(State(app): State<App>, path: TypedId, command: Command<NoBody>) -> Result<Accepted, Refusal> {
    let TypedId { resource_type, id } = path;
    let action = move |standing: &Standing<ClinicalRecord>| {
        is_of_type(standing, &resource_type).map(|()| ClinicalRecord::retract())
    };
    app.change_by::<ClinicalRecord>("retract_record", &command.call, Action::FileRecord, id, action).await
}
