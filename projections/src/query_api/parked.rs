//! `GET /v1/parked`: what could not be applied, and why. Retrying and giving up need the projector's rights, so it is the
//! projector that does them.

use axum::Json;
use axum::extract::State;
use nexus_auth::policy::{Action, ResourceContext};
use nexus_web::extract::Query;
use nexus_web::pipeline::{Authenticated, authorize};
use nexus_web::problem::{Problem, ProblemBody};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::page::{self, Page};
use super::{QueryApi, database_problem};
use crate::all_read_models;
use crate::engine::parked::{PageKey, ParkedEntry, page};

pub(super) fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(list_parked))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ParkedParams {
    /// Of this read model; of all unless given.
    read_model: Option<String>,
    /// Items of a page, from 1 to 500; 50 unless told.
    limit: Option<u32>,
    /// Where a page before this one ended.
    cursor: Option<String>,
}

/// List the subjects whose events can't be applied, with the reason, what is behind it, and how many events wait.
///
/// Oldest first, in every version of each read model. An event that was parked waits for an operator; the later events of
/// its subject wait behind it.
#[utoipa::path(
    get,
    path = "/v1/parked",
    tag = "Operations",
    params(ParkedParams),
    responses(
        (status = 200, description = "A page of parked subjects", body = Page<ParkedEntry>),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn list_parked(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Query(params): Query<ParkedParams>,
) -> Result<Json<Page<ParkedEntry>>, Problem> {
    authorize(&caller, Action::ReadOperations, &ResourceContext::none())?;
    let limit = page::limit(params.limit)?;
    let read_model = params.read_model.as_deref();
    if read_model.is_some_and(|name| !all_read_models().iter().any(|model| model.name() == name)) {
        return Err(Problem::invalid_parameter("read_model", "The name of a read model is expected."));
    }
    let scope = format!("parked/{}", read_model.unwrap_or_default());
    let after: Option<PageKey> = api.cursor_key(&scope, params.cursor.as_deref())?;
    let mut items = page(api.watch(), read_model, after, limit + 1).await.map_err(database_problem)?;
    let more = page::cut(&mut items, limit);
    let next = items.last().filter(|_| more).map(|last| {
        let ParkedEntry { read_model, version, parked } = last;
        api.cursor(&scope, &(parked.since, read_model, version, parked.subject))
    });
    Ok(Json(Page { items, next }))
}
