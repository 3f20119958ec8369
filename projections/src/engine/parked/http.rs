//! `POST /v1/parked/{read_model}/{subject}/retry` and `…/discard`: what `projector parked` does, for operators who are
//! somewhere else. They stand at the projector, so that no door needs rights to change read models.

use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use nexus_auth::Caller;
use nexus_auth::policy::{Action, ResourceContext};
use nexus_event_store::Keyring;
use nexus_web::extract::{Path, Query};
use nexus_web::pipeline::{Authenticated, authorize};
use nexus_web::problem::Problem;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use uuid::Uuid;

use super::{Retry, discard};
use crate::engine::versions;
use crate::query_api::database_problem;
use crate::read_model::ReadModel;

/// One decision at a time of each kind, and one to spare.
const CONNECTIONS: u32 = 2;

/// What the routes work with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ParkedRoutes {
    read: PgConnectOptions,
    pool: PgPool,
    /// There as soon as the key store lets it be opened.
    keyring: Arc<OnceLock<Keyring>>,
    models: Arc<[Arc<dyn ReadModel>]>,
}

impl ParkedRoutes {
    pub(crate) fn new(read: &PgConnectOptions, keyring: Arc<OnceLock<Keyring>>, models: &[Arc<dyn ReadModel>]) -> Self {
        let options = read.clone().application_name("projector parked");
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_lazy_with(options);
        Self { read: read.clone(), pool, keyring, models: models.into() }
    }

    fn model(&self, name: &str) -> Result<Arc<dyn ReadModel>, Problem> {
        self.models.iter().find(|model| model.name() == name).cloned().ok_or_else(Problem::not_found)
    }
}

/// The routes; they need an operator's token.
pub(crate) fn routes(parked: ParkedRoutes) -> Router {
    Router::new()
        .route("/v1/parked/{read_model}/{subject}/retry", post(retry_parked))
        .route("/v1/parked/{read_model}/{subject}/discard", post(discard_parked))
        .with_state(parked)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParams {}

/// How a retry went.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RetriedBody {
    /// Events applied, or dropped because the subject was erased.
    applied: u64,
    /// Where the queue stops again; null if nothing of the subject is parked any more.
    stopped_at: Option<Stop>,
}

#[derive(Serialize)]
struct Stop {
    position: i64,
    reason: String,
}

/// Apply what is parked of a subject, in order.
async fn retry_parked(
    State(parked): State<ParkedRoutes>,
    Authenticated(caller): Authenticated,
    Path((read_model, subject)): Path<(String, Uuid)>,
    Query(NoParams {}): Query<NoParams>,
) -> Result<Json<RetriedBody>, Problem> {
    authorize(&caller, Action::ManageOperations, &ResourceContext::none())?;
    let model = parked.model(&read_model)?;
    let keyring = parked.keyring.get().ok_or_else(Problem::store_unavailable)?;
    let name = versions::served(&parked.pool, model.as_ref()).await.map_err(database_problem)?;
    let name = name.ok_or_else(Problem::store_unavailable)?;
    let retry = Retry::new(&parked.read, keyring.clone(), model.clone(), name.version);
    let retried = retry.subject(subject).await.map_err(|error| {
        tracing::warn!(%error, "a retry could not be carried out");
        Problem::store_unavailable()
    })?;
    tell("retry", &caller, model.as_ref(), subject);
    let stopped_at = retried.stopped_at.map(|(position, reason)| Stop { position, reason });
    Ok(Json(RetriedBody { applied: retried.applied, stopped_at }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiscardParams {
    /// The event's position in its partition.
    position: i64,
}

/// What was given up.
#[derive(Serialize)]
struct DiscardedBody {
    position: i64,
}

/// Give one event up for good.
async fn discard_parked(
    State(parked): State<ParkedRoutes>,
    Authenticated(caller): Authenticated,
    Path((read_model, subject)): Path<(String, Uuid)>,
    Query(DiscardParams { position }): Query<DiscardParams>,
) -> Result<Json<DiscardedBody>, Problem> {
    authorize(&caller, Action::ManageOperations, &ResourceContext::none())?;
    let model = parked.model(&read_model)?;
    let name = versions::served(&parked.pool, model.as_ref()).await.map_err(database_problem)?;
    let name = name.ok_or_else(Problem::store_unavailable)?;
    if !discard(&parked.pool, name, subject, position).await.map_err(database_problem)? {
        return Err(Problem::not_found());
    }
    tell("discard", &caller, model.as_ref(), subject);
    Ok(Json(DiscardedBody { position }))
}

/// Says in the log which client decided; the id of a person is none of its business.
fn tell(decision: &'static str, caller: &Caller, model: &dyn ReadModel, subject: Uuid) {
    let (read_model, client) = (model.name(), caller.client_id().unwrap_or_default());
    tracing::info!(decision, client, read_model, subject = %subject, "an operator decided about a parked subject");
}
