//! `GET /v1/read-models`: how far each read model is.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use nexus_auth::policy::{Action, ResourceContext};
use nexus_web::extract::Query;
use nexus_web::pipeline::{Authenticated, authorize};
use nexus_web::problem::{Problem, ProblemBody};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::page::Page;
use super::{QueryApi, database_problem};
use crate::engine;

pub(super) fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(list_read_models))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParams {}

/// Where a partition of a read model stands.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReadModelLag {
    read_model: String,
    version: i32,
    partition: i32,
    /// The last position applied.
    position: i64,
    /// The newest position known to be in Kafka.
    head: i64,
    /// Events between the two.
    lag: i64,
    /// Events that could not be applied, and those behind them.
    parked: i64,
    updated_at: DateTime<Utc>,
}

/// List how far each read model is, per partition.
#[utoipa::path(
    get,
    path = "/v1/read-models",
    tag = "Operations",
    responses(
        (status = 200, description = "Read models and partitions", body = Page<ReadModelLag>),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn list_read_models(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Query(NoParams {}): Query<NoParams>,
) -> Result<Json<Page<ReadModelLag>>, Problem> {
    authorize(&caller, Action::ReadOperations, &ResourceContext::none())?;
    lags(&api).await.map(Json)
}

/// How far each read model is, per partition.
pub(super) async fn lags(api: &QueryApi) -> Result<Page<ReadModelLag>, Problem> {
    let lags = engine::lag(api.watch()).await.map_err(database_problem)?;
    let items = lags.into_iter().map(|lag| ReadModelLag {
        read_model: lag.read_model,
        version: lag.version,
        partition: lag.partition,
        position: lag.position,
        head: lag.head,
        lag: lag.lag,
        parked: lag.parked,
        updated_at: lag.updated_at,
    });
    Ok(Page { items: items.collect(), next: None })
}
