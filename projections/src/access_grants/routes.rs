//! `GET /v1/emergency-accesses`.

use axum::Json;
use axum::extract::State;
use nexus_auth::policy::{Action, ResourceContext};
use nexus_web::extract::Query;
use nexus_web::pipeline::{Authenticated, authorize};
use nexus_web::problem::{Problem, ProblemBody};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::NAME;
use super::emergencies::{self, EmergencyCase, Key, Row};
use crate::query_api::page::{self, Page};
use crate::query_api::{After, QueryApi};

/// The routes of this read model.
pub fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(list_emergency_accesses))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CaseParams {
    /// Whether to include cases that are closed; not unless told.
    reviewed: Option<bool>,
    /// Items of a page, from 1 to 500; 50 unless told.
    limit: Option<u32>,
    /// Where a page before this one ended.
    cursor: Option<String>,
    /// A position token: answer only once this write has been seen.
    position: Option<String>,
}

/// List emergency accesses, oldest first: those whose review is due.
#[utoipa::path(
    get,
    path = "/v1/emergency-accesses",
    tag = "Emergency access",
    params(CaseParams, After),
    responses(
        (status = 200, description = "A page of cases", body = Page<EmergencyCase>),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn list_emergency_accesses(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Query(params): Query<CaseParams>,
    after: After,
) -> Result<Json<Page<EmergencyCase>>, Problem> {
    authorize(&caller, Action::ReadEmergencies, &ResourceContext::none())?;
    let limit = page::limit(params.limit)?;
    let all = params.reviewed == Some(true);
    let scope = format!("emergency-accesses/{all}");
    let key: Option<Key> = api.cursor_key(&scope, params.cursor.as_deref())?;
    api.wait(NAME, &after.and(params.position.as_deref())?).await?;
    let mut rows = emergencies::rows(&api, all, key, limit).await?;
    let more = page::cut(&mut rows, limit);
    let next = rows.last().filter(|_| more).map(Row::key).map(|key| api.cursor(&scope, &key));
    Ok(Json(Page { items: emergencies::open(&api, rows).await?, next }))
}
