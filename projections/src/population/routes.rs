//! `GET /v1/population/conditions` and `GET /v1/population/age-bands`.

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
use super::query::{self, AgeBandCount, ConditionCount, Filter, Key};
use crate::query_api::page::{self, Page};
use crate::query_api::{After, PositionOnly, QueryApi};
use crate::rows;

/// The routes of this read model.
pub fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(count_conditions)).routes(routes!(count_age_bands))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ConditionParams {
    /// Conditions of this code system.
    #[param(example = "http://snomed.info/sct")]
    system: Option<String>,
    /// Conditions with this code.
    #[param(example = "44054006")]
    code: Option<String>,
    /// Only with this clinical status, such as `active`; all that were not refuted unless told.
    status: Option<String>,
    /// Conditions of a page, from 1 to 500; 50 unless told.
    limit: Option<u32>,
    /// Where a page before this one ended.
    cursor: Option<String>,
    /// A position token: answer only once this write has been seen.
    position: Option<String>,
}

/// Count patients per condition and age band.
///
/// A patient counts once per condition. Counts below the threshold are not told, nor are those that would give them away.
#[utoipa::path(
    get,
    path = "/v1/population/conditions",
    tag = "Population",
    params(ConditionParams, After),
    responses(
        (status = 200, description = "Conditions with their counts", body = Page<ConditionCount>),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn count_conditions(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Query(params): Query<ConditionParams>,
    after: After,
) -> Result<Json<Page<ConditionCount>>, Problem> {
    authorize(&caller, Action::ReadPopulation, &ResourceContext::none())?;
    let limit = page::limit(params.limit)?;
    let scope = format!("population/{:?}", (&params.system, &params.code, &params.status));
    let key: Option<Key> = api.cursor_key(&scope, params.cursor.as_deref())?;
    api.wait(NAME, &after.and(params.position.as_deref())?).await?;
    let column = |text: Option<String>| text.map(|text| rows::column(&text).into_owned());
    let filter = Filter { system: column(params.system), code: column(params.code), status: column(params.status) };
    let mut items = query::conditions(&api, &filter, key, limit).await?;
    let more = page::cut(&mut items, limit);
    let next = items.last().filter(|_| more).map(|last| api.cursor(&scope, &(&last.system, &last.code)));
    Ok(Json(Page { items, next }))
}

/// Count patients per age band.
///
/// Counts below the threshold are not told, nor are those that would give them away.
#[utoipa::path(
    get,
    path = "/v1/population/age-bands",
    tag = "Population",
    params(PositionOnly, After),
    responses(
        (status = 200, description = "Age bands with their counts", body = Page<AgeBandCount>),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn count_age_bands(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Query(params): Query<PositionOnly>,
    after: After,
) -> Result<Json<Page<AgeBandCount>>, Problem> {
    authorize(&caller, Action::ReadPopulation, &ResourceContext::none())?;
    api.wait(NAME, &after.and(params.position.as_deref())?).await?;
    Ok(Json(Page { items: query::age_bands(&api).await?, next: None }))
}
