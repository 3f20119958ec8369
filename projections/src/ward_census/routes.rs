//! `GET /v1/census` and `GET /v1/wards/{location}/census`.

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
use super::query::{self, CensusEntry, WardCount};
use crate::query_api::page::{self, Page};
use crate::query_api::{After, QueryApi};

/// The routes of this read model.
pub fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(list_wards)).routes(routes!(read_ward))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CensusParams {
    /// Items of a page, from 1 to 500; 50 unless told.
    limit: Option<u32>,
    /// Where a page before this one ended.
    cursor: Option<String>,
    /// A position token: answer only once this write has been seen.
    position: Option<String>,
}

/// Count the patients that are present, by place.
#[utoipa::path(
    get,
    path = "/v1/census",
    tag = "Wards",
    params(CensusParams, After),
    responses(
        (status = 200, description = "Places with patients", body = Page<WardCount>),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn list_wards(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Query(params): Query<CensusParams>,
    after: After,
) -> Result<Json<Page<WardCount>>, Problem> {
    authorize(&caller, Action::ReadCensus, &ResourceContext::none())?;
    let limit = page::limit(params.limit)?;
    let last: Option<Uuid> = api.cursor_key("census", params.cursor.as_deref())?;
    api.wait(NAME, &after.and(params.position.as_deref())?).await?;
    let mut items = query::counts(&api, last, limit).await?;
    let more = page::cut(&mut items, limit);
    let next = items.last().filter(|_| more).and_then(|last| last.location).map(|key| api.cursor("census", &key));
    Ok(Json(Page { items, next }))
}

/// List the patients of a ward.
#[utoipa::path(
    get,
    path = "/v1/wards/{location}/census",
    tag = "Wards",
    params(("location" = Uuid, Path, description = "The id of the Location"), CensusParams, After),
    responses(
        (status = 200, description = "Who is there", body = Page<CensusEntry>),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn read_ward(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Path(location): Path<Uuid>,
    Query(params): Query<CensusParams>,
    after: After,
) -> Result<Json<Page<CensusEntry>>, Problem> {
    authorize(&caller, Action::ReadCensus, &ResourceContext::none())?;
    let limit = page::limit(params.limit)?;
    let scope = format!("ward/{location}");
    let last: Option<Uuid> = api.cursor_key(&scope, params.cursor.as_deref())?;
    api.wait(NAME, &after.and(params.position.as_deref())?).await?;
    let mut rows = query::of_ward(&api, location, last, limit).await?;
    let more = page::cut(&mut rows, limit);
    let next = rows.last().filter(|_| more).map(|row| api.cursor(&scope, &row.encounter));
    Ok(Json(Page { items: query::open(&api, rows).await?, next }))
}
