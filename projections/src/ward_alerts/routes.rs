//! `GET /v1/wards/{location}/alerts` and `GET /v1/patients/{id}/alerts`.

use axum::Json;
use axum::extract::State;
use nexus_auth::policy::{Action, ResourceContext};
use nexus_web::extract::{Path, Query};
use nexus_web::pipeline::{Authenticated, authorize};
use nexus_web::problem::{Problem, ProblemBody};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::NAME;
use super::query::{self, Of, StandingAlert};
use crate::query_api::page::{self, Page};
use crate::query_api::{After, QueryApi};

/// The routes of this read model.
pub fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(list_ward_alerts)).routes(routes!(list_patient_alerts))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AlertParams {
    /// Items of a page, from 1 to 500; 50 unless told.
    limit: Option<u32>,
    /// Where a page before this one ended.
    cursor: Option<String>,
    /// A position token: answer only once this write has been seen.
    position: Option<String>,
}

/// List the alerts that stand on a ward.
#[utoipa::path(
    get,
    path = "/v1/wards/{location}/alerts",
    tag = "Wards",
    params(("location" = Uuid, Path, description = "The id of the Location"), AlertParams, After),
    responses(
        (status = 200, description = "Who has to be looked after", body = Page<StandingAlert>),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn list_ward_alerts(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Path(location): Path<Uuid>,
    Query(params): Query<AlertParams>,
    after: After,
) -> Result<Json<Page<StandingAlert>>, Problem> {
    authorize(&caller, Action::ReadAlerts, &ResourceContext::none())?;
    let after = after.and(params.position.as_deref())?;
    page_of(&api, Of::Ward(location), &format!("ward-alerts/{location}"), &params, &after).await
}

/// List the alerts that stand about a patient.
#[utoipa::path(
    get,
    path = "/v1/patients/{id}/alerts",
    tag = "Patients",
    params(("id" = Uuid, Path, description = "The patient's id"), AlertParams, After),
    responses(
        (status = 200, description = "Alerts that stand", body = Page<StandingAlert>),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn list_patient_alerts(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Path(patient): Path<Uuid>,
    Query(params): Query<AlertParams>,
    after: After,
) -> Result<Json<Page<StandingAlert>>, Problem> {
    let after = after.and(params.position.as_deref())?;
    api.access(&caller, Action::ReadAlerts, patient, &after).await?;
    api.wait(NAME, &after).await?;
    if !query::exists(&api, patient).await? || api.is_erased(patient).await? {
        return Err(Problem::not_found());
    }
    page_of(&api, Of::Patient(patient), &format!("patient-alerts/{patient}"), &params, &after).await
}

async fn page_of(
    api: &QueryApi,
    of: Of,
    scope: &str,
    params: &AlertParams,
    after: &After,
) -> Result<Json<Page<StandingAlert>>, Problem> {
    let limit = page::limit(params.limit)?;
    let last: Option<Uuid> = api.cursor_key(scope, params.cursor.as_deref())?;
    api.wait(NAME, after).await?;
    let mut rows = query::standing(api, of, last, limit).await?;
    let more = page::cut(&mut rows, limit);
    let next = rows.last().filter(|_| more).map(|row| api.cursor(scope, &row.alert));
    Ok(Json(Page { items: query::open(api, rows).await?, next }))
}
