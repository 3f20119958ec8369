//! FHIR R4 bundles: <https://hl7.org/fhir/R4/http.html#transaction>.
//!
//! A bundle states what has happened elsewhere, so its commands have the origin *history*: rules of form and sense
//! refuse, rules about decisions leave notes. A transaction is one append, whatever its size; the entries of a batch are
//! appended each by itself. An attempt begins with the bytes: when something moved meanwhile, all of it is done again,
//! which is rare, and in return nothing is copied in the usual case.

mod answer;
mod batch;
mod bundle;
mod conditional;
mod decide;
mod group;
mod home;
mod known;
mod names;
mod own;
mod resolve;
mod succession;
mod transaction;
mod versions;

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::response::Response;
use nexus_auth::policy::{Action, ResourceContext};
use nexus_domain::fhir::Resource;
use nexus_web::body::{Pace, Read};
use nexus_web::extract::{FormatParams, Query};
use nexus_web::json::{self, JsonLimits};
use nexus_web::media::require_fhir_json;
use nexus_web::pipeline::{Authenticated, RequestId, authorize};
use nexus_web::problem::ProblemBody;
use nexus_web::room::Held;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use conditional::References;
pub use own::OwnBases;

use crate::app::App;
use crate::call::Call;
use crate::executor::count;
use crate::openapi::{BundleBody, BundleResponseBody, CommandHeaders, Refusals};
use crate::refusal::Refusal;

/// The largest bundle.
pub const BUNDLE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many bytes of bundles this process holds at a time: two of the largest size, or ten of a usual patient's. Parsed, a
/// bundle takes several times its bytes.
pub const ROOM_BYTES: usize = 2 * BUNDLE_BYTES_MAX;
/// How long a bundle may take to arrive, which leaves the rest of a request's time for the work.
const BUNDLE_TIME_MAX: Duration = Duration::from_secs(90);
/// The most entries of a bundle.
pub const ENTRIES_MAX: usize = 20_000;
/// The largest resource, as it is sent: a scan of some pages. Sealed, and with references that became longer, it stays below
/// the largest event that the log takes ([`nexus_event_store::append::EVENT_BYTES_MAX`]) and Kafka's largest record.
pub const RESOURCE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How often a bundle is done again after something it leaned on moved. A bundle is slower than the commands that it races
/// with, so it gets more turns than they do.
const ATTEMPTS_MAX: u32 = 12;

pub fn routes() -> OpenApiRouter<App> {
    let pace = Pace { whole: BUNDLE_TIME_MAX, ..Pace::default() };
    let limits = JsonLimits::of_bytes(BUNDLE_BYTES_MAX).at_pace(pace);
    OpenApiRouter::new().routes(routes!(process_bundle)).layer(limits.layer())
}

/// A bundle as it came, with the room that it takes until it is answered.
pub struct BundleRequest {
    call: Call,
    json: Bytes,
    _room: Option<Held>,
}

impl FromRequest<App> for BundleRequest {
    type Rejection = Refusal;

    /// A body of this size is read only for a caller who may send it and can read the answer, and only as far as there is
    /// room for it.
    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let Authenticated(caller) = Authenticated::from_request_parts(&mut parts, app).await?;
        authorize(&caller, Action::ImportBundle, &ResourceContext::none())?;
        let Query(FormatParams { format, .. }) = Query::from_request_parts(&mut parts, app).await?;
        require_fhir_json(&parts.headers, format.as_deref())?;
        let RequestId(request_id) =
            RequestId::from_request_parts(&mut parts, app).await.unwrap_or_else(|never| match never {});
        let Read { bytes, room } = json::read(Request::from_parts(parts.clone(), body), Some(&app.room)).await?;
        let hashed = bytes.clone();
        let call = busy(move || Call::new(&parts, caller, request_id, &hashed)).await??;
        Ok(Self { call, json: bytes, _room: room })
    }
}

/// Process a FHIR R4 transaction or batch bundle.
///
/// A transaction is all or nothing: if one entry is refused, nothing of it is stored, and the problem lists every bad
/// entry. The entries of a batch are independent; each has its own outcome in the answer. Ids that are UUIDs are kept;
/// what is put under another id is read under it, and the answer tells the UUID that it has here. `urn:uuid:`, relative,
/// conditional (`Practitioner?identifier=system|value`) and contained references are resolved, or refused by their
/// place; URLs of attachments, other URLs and links of narratives follow the entries that they name. An entry that is there already is answered with `200 OK` and adds nothing.
#[utoipa::path(post, path = "/fhir", tag = "fhir", params(CommandHeaders, FormatParams),
    request_body(
        content((BundleBody = "application/fhir+json"), (BundleBody = "application/json")),
        description = "A Bundle of type transaction or batch: at most 64 MiB, 20,000 entries, 2 MiB a resource"
    ),
    responses((status = 200, description = "Processed", body = BundleResponseBody, content_type = "application/fhir+json"),
        (status = 406, description = "Another form than JSON is asked for, by `Accept` or `_format`", body = ProblemBody,
            content_type = "application/problem+json"),
        Refusals))]
async fn process_bundle(State(app): State<App>, request: BundleRequest) -> Result<Response, Refusal> {
    let BundleRequest { call, json, _room } = request;
    let _turn = app.executor.in_flight.enter(&call)?;
    let whole = json.clone();
    let kind = busy(move || bundle::kind(&whole)).await??;
    let result = match kind {
        bundle::Kind::Transaction => transaction::process(&app, &call, json).await,
        bundle::Kind::Batch => batch::process(&app, &call, json).await,
    };
    count(kind.name(), &result);
    answer::respond(&app, &call, result?).await
}

/// Runs work that keeps a processor busy where it keeps nobody else waiting.
async fn busy<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let span = tracing::Span::current();
    let work = move || span.in_scope(work);
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::Internal("a worker stopped"))
}

/// The place of an entry's resource in the bundle.
fn in_resource(index: usize) -> String {
    format!("/entry/{index}/resource")
}

/// Visits every reference of a resource, contained resources included.
fn each_reference(resource: &mut Resource, mut visit: impl FnMut(&str)) {
    nexus_domain::fhir::rewrite_references(resource, &mut |text| {
        visit(text);
        None
    });
}
