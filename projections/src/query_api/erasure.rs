//! `GET /v1/patients/{id}/erasure`: what was erased where, signed. It holds ids, numbers and who decided; the patient's own
//! data is gone.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use nexus_auth::policy::{Action, ResourceContext};
use nexus_event_store::{Keyring, RecordedErasure};
use nexus_web::extract::Path;
use nexus_web::pipeline::{Authenticated, authorize};
use nexus_web::problem::{Problem, ProblemBody};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::{QueryApi, database_problem};
use crate::engine::checkpoint::Name;
use crate::engine::forgotten::{self, Forgotten};
use crate::read_models;

/// Where whoever checks receipts finds the public key, without a token.
const KEYS_PATH: &str = "/.well-known/nexus-receipt-keys.json";

pub(super) fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(read_erasure))
}

/// The public key, as a JWK Set.
pub(super) fn keys(keyring: &Keyring) -> Router {
    let keys = keyring.receipt_keys();
    Router::new().route(KEYS_PATH, get(move || std::future::ready(Json(keys.clone()))))
}

/// Whether a patient was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
enum ErasureState {
    /// Nothing of this id was erased; whether there is such a patient is not said here.
    NotErased,
    /// The key is destroyed, and some read models have not caught up yet.
    Underway,
    Erased,
}

/// An erasure and its receipt.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct ErasureBody {
    state: ErasureState,
    /// Nothing as long as nothing was erased.
    receipt: Option<ErasureReceipt>,
    /// The receipt once more, signed: a compact JWS (RFC 7515, ES256). The public key is under
    /// `/.well-known/nexus-receipt-keys.json`.
    jws: Option<String>,
}

/// What was erased where.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct ErasureReceipt {
    subject: Uuid,
    /// The event that erased the subject, and where it stands: everything of the subject up to there is erased.
    event_id: Uuid,
    partition: i32,
    position: i64,
    /// Who asked and who approved; null if the key store lost the key before the event could be read.
    requested_by: Option<String>,
    requested_at: Option<DateTime<Utc>>,
    approved_by: Option<String>,
    approved_at: Option<DateTime<Utc>>,
    keys: Vec<DestroyedKey>,
    /// When the keys were destroyed.
    destroyed_at: DateTime<Utc>,
    log: RemovedFromLog,
    read_models: Vec<RemovedFromReadModel>,
    /// Whether every read model that is served has dropped the subject.
    complete: bool,
    issued_at: DateTime<Utc>,
}

/// A key that was destroyed. What it sealed stays in the log, in Kafka and in backups, and can't be opened.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct DestroyedKey {
    id: Uuid,
    /// SHA-256 over `nexus-key-fingerprint-1|`, the 16 bytes of the id and the key, in hexadecimal; empty if the key could not
    /// be unwrapped any more.
    fingerprint: String,
}

/// What stood beside the events.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RemovedFromLog {
    snapshots: i64,
    /// Record numbers and times that are free again.
    claims: i64,
}

/// What a read model has dropped.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RemovedFromReadModel {
    name: String,
    version: i32,
    rows: i64,
    /// Events that waited among the parked ones.
    parked: i64,
    /// Whether it has seen the event that erased the subject; until then it may not be done.
    done: bool,
}

/// Read what was erased of a patient, and by whose decision.
#[utoipa::path(
    get,
    path = "/v1/patients/{id}/erasure",
    tag = "Patients",
    params(("id" = Uuid, Path, description = "The patient's id")),
    responses(
        (status = 200, description = "Whether the patient was erased, and the signed receipt", body = ErasureBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn read_erasure(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Path(patient): Path<Uuid>,
) -> Result<Json<ErasureBody>, Problem> {
    authorize(&caller, Action::ReadErasure, &ResourceContext::of_subject(patient))?;
    let recorded = api.keyring().erasure(patient).await.map_err(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "the key store did not answer");
        Problem::store_unavailable()
    })?;
    let Some((recorded, as_written)) = recorded else {
        return Ok(Json(ErasureBody { state: ErasureState::NotErased, receipt: None, jws: None }));
    };
    if !as_written {
        tracing::error!("the record of an erasure was changed");
        return Err(Problem::internal());
    }
    let forgotten = forgotten::of_subject(api.watch(), patient).await.map_err(database_problem)?;
    let receipt = receipt(&api, recorded, forgotten);
    let state = if receipt.complete { ErasureState::Erased } else { ErasureState::Underway };
    let signed = serde_json::to_value(&receipt).map_err(|_| Problem::internal())?;
    Ok(Json(ErasureBody { state, jws: Some(api.keyring().sign_receipt(&signed)), receipt: Some(receipt) }))
}

fn receipt(api: &QueryApi, recorded: RecordedErasure, forgotten: Vec<Forgotten>) -> ErasureReceipt {
    let is_done = |name: Name<'_>| {
        let done = |it: &Forgotten| (it.read_model.as_str(), it.version) == (name.read_model, name.version);
        forgotten.iter().any(|it| done(it) && it.position.is_some())
    };
    let complete = read_models().iter().all(|model| is_done(api.served(model.name())));
    let key = |(id, fingerprint): (Uuid, Vec<u8>)| DestroyedKey { id, fingerprint: hex::encode(fingerprint) };
    let removed = |it: Forgotten| RemovedFromReadModel {
        done: it.position.is_some(),
        name: it.read_model,
        version: it.version,
        rows: it.rows,
        parked: it.parked,
    };
    ErasureReceipt {
        subject: recorded.subject,
        event_id: recorded.event_id,
        partition: recorded.partition,
        position: recorded.position,
        requested_by: recorded.requested_by,
        requested_at: recorded.requested_at,
        approved_by: recorded.approved_by,
        approved_at: recorded.approved_at,
        keys: recorded.key_ids.into_iter().zip(recorded.fingerprints).map(key).collect(),
        destroyed_at: recorded.erased_at,
        log: RemovedFromLog { snapshots: recorded.snapshots, claims: recorded.claims },
        complete,
        read_models: forgotten.into_iter().map(removed).collect(),
        issued_at: Utc::now(),
    }
}
