//! `GET /v1/accesses`, `GET /v1/patients/{id}/accesses`, `GET /fhir/AuditEvent`.
//!
//! Asking who looked is looking, too: these requests are recorded like all others.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Days, NaiveDate, Utc};
use nexus_auth::Role;
use nexus_auth::policy::{Action, ResourceContext};
use nexus_domain::fhir::id_of;
use nexus_web::extract::{Path, Query};
use nexus_web::media::{FHIR_JSON, require_fhir_json};
use nexus_web::pipeline::{Authenticated, authorize};
use nexus_web::problem::{Problem, ProblemBody};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::audit_event::audit_event;
use super::query::{self, Access, Filter, OwnAccess};
use crate::query_api::QueryApi;
use crate::query_api::page::{self, Page};

const OUTCOMES: [&str; 5] = ["success", "refused", "failed", "interrupted", "unknown"];

/// The routes of this read model.
pub fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new()
        .routes(routes!(list_accesses))
        .routes(routes!(list_patient_accesses))
        .routes(routes!(search_audit_events))
        .routes(routes!(read_audit_event))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AccessParams {
    /// Who, as the issuer names them.
    actor: Option<String>,
    /// The first moment.
    from: Option<DateTime<Utc>>,
    /// The end, exclusive.
    to: Option<DateTime<Utc>>,
    /// success, refused, failed, interrupted or unknown.
    outcome: Option<String>,
    /// Items of a page, from 1 to 500; 50 unless told.
    limit: Option<u32>,
    /// The `next` of another page.
    cursor: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PageParams {
    /// Items of a page, from 1 to 500; 50 unless told.
    limit: Option<u32>,
    /// The `next` of another page.
    cursor: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditParams {
    /// The patient's id, or `Patient/` and the id.
    patient: Option<String>,
    /// Who, as the issuer names them.
    agent: Option<String>,
    /// A day such as 2026-11-25; with `ge` or `le` before it, from that day on or until its end.
    date: Option<String>,
    /// Events of a page, from 1 to 500; 50 unless told.
    #[serde(rename = "_count")]
    #[param(rename = "_count")]
    count: Option<u32>,
    /// From the link to the next page.
    cursor: Option<String>,
    /// The media type of the answer, instead of `Accept`: `json`, `application/json` or `application/fhir+json`.
    #[serde(rename = "_format")]
    #[param(rename = "_format", example = "json")]
    format: Option<String>,
    /// Whether the answer is put into lines for people.
    #[serde(rename = "_pretty")]
    #[param(rename = "_pretty")]
    _pretty: Option<bool>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReadParams {
    /// The media type of the answer, instead of `Accept`: `json`, `application/json` or `application/fhir+json`.
    #[serde(rename = "_format")]
    #[param(rename = "_format", example = "json")]
    format: Option<String>,
    /// Whether the answer is put into lines for people.
    #[serde(rename = "_pretty")]
    #[param(rename = "_pretty")]
    _pretty: Option<bool>,
}

/// What a patient's list of accesses is made of: all of it for an auditor, less for the patient.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
enum ListedAccess {
    Full(Box<Access>),
    Own(OwnAccess),
}

/// List accesses, newest first.
#[utoipa::path(
    get,
    path = "/v1/accesses",
    tag = "Access log",
    params(AccessParams),
    responses(
        (status = 200, description = "A page of accesses", body = Page<Access>),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn list_accesses(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Query(params): Query<AccessParams>,
) -> Result<Json<Page<Access>>, Problem> {
    authorize(&caller, Action::ReadAccessLog, &ResourceContext::none())?;
    if params.outcome.as_deref().is_some_and(|outcome| !OUTCOMES.contains(&outcome)) {
        return Err(Problem::invalid_parameter("outcome", format!("One of {}.", OUTCOMES.join(", "))));
    }
    let limit = page::limit(params.limit)?;
    let before = api.cursor_key(SCOPE, params.cursor.as_deref())?;
    let filter =
        Filter { actor: params.actor, from: params.from, to: params.to, outcome: params.outcome, ..Filter::default() };
    let (items, more) = query::list(&api, &filter, before, limit).await?;
    let next = items.last().filter(|_| more).map(|last| api.cursor(SCOPE, &last.id));
    Ok(Json(Page { items, next }))
}

const SCOPE: &str = "accesses";

/// List who looked at a patient's data, newest first.
///
/// An auditor sees every access, refused ones included. A patient sees who saw their record, or may have: when, in which
/// role, what and what for, and not from where, by which program, or whose data else the same request showed.
#[utoipa::path(
    get,
    path = "/v1/patients/{id}/accesses",
    tag = "Access log",
    params(("id" = Uuid, Path, description = "The patient's id"), PageParams),
    responses(
        (status = 200, description = "A page of accesses", body = Page<ListedAccess>),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn list_patient_accesses(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Path(patient): Path<Uuid>,
    Query(params): Query<PageParams>,
) -> Result<Json<Page<ListedAccess>>, Problem> {
    authorize(&caller, Action::ReadPatientAccesses, &ResourceContext::of_subject(patient))?;
    let limit = page::limit(params.limit)?;
    let scope = format!("accesses/{patient}");
    let before = api.cursor_key(&scope, params.cursor.as_deref())?;
    if api.is_erased(patient).await? {
        return Err(Problem::not_found());
    }
    let is_auditor = caller.has(Role::Auditor);
    let filter = Filter { patient: Some(patient), may_have_seen: !is_auditor, ..Filter::default() };
    let (accesses, more) = query::list(&api, &filter, before, limit).await?;
    let next = accesses.last().filter(|_| more).map(|last| api.cursor(&scope, &last.id));
    let items = accesses.into_iter().map(|access| match is_auditor {
        true => ListedAccess::Full(Box::new(access)),
        false => ListedAccess::Own(access.into()),
    });
    Ok(Json(Page { items: items.collect(), next }))
}

/// Search accesses as FHIR AuditEvents, newest first.
///
/// Each is shaped as IHE's Basic Audit Log Patterns say. There is one AuditEvent per request, with an entity for each
/// patient whose data was touched.
#[utoipa::path(
    get,
    path = "/fhir/AuditEvent",
    tag = "FHIR",
    params(AuditParams),
    responses(
        (status = 200, description = "A searchset", content_type = "application/fhir+json", body = Object),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn search_audit_events(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Query(params): Query<AuditParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    require_fhir_json(&headers, params.format.as_deref())?;
    let patient = params.patient.as_deref().map(read_patient).transpose()?;
    // Only an auditor: what a patient may see of an access is less than an AuditEvent holds.
    authorize(&caller, Action::ReadAccessLog, &patient.map_or(ResourceContext::none(), ResourceContext::of_subject))?;
    let limit = page::limit(params.count)?;
    let scope = json!(["AuditEvent", patient, params.agent, params.date]).to_string();
    let before = api.cursor_key(&scope, params.cursor.as_deref())?;
    let (from, to) = params.date.as_deref().map_or(Ok((None, None)), read_date)?;
    let filter = Filter { patient, actor: params.agent.clone(), from, to, ..Filter::default() };
    let (accesses, more) = query::list(&api, &filter, before, limit).await?;
    let next = accesses.last().filter(|_| more).map(|last| next_link(&params, limit, &api.cursor(&scope, &last.id)));
    let entries = accesses.iter().map(|access| json!({"resource": audit_event(access), "search": {"mode": "match"}}));
    let mut bundle = json!({"resourceType": "Bundle", "type": "searchset"});
    if let Some(next) = next {
        bundle["link"] = json!([{"relation": "next", "url": next}]);
    }
    bundle["entry"] = entries.collect();
    Ok(fhir(&bundle))
}

/// Read one access as a FHIR AuditEvent.
#[utoipa::path(
    get,
    path = "/fhir/AuditEvent/{id}",
    tag = "FHIR",
    params(("id" = Uuid, Path, description = "The id of the access"), ReadParams),
    responses(
        (status = 200, description = "The AuditEvent", content_type = "application/fhir+json", body = Object),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn read_audit_event(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Path(id): Path<Uuid>,
    Query(params): Query<ReadParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    require_fhir_json(&headers, params.format.as_deref())?;
    authorize(&caller, Action::ReadAccessLog, &ResourceContext::none())?;
    let (accesses, _) = query::list(&api, &Filter { id: Some(id), ..Filter::default() }, None, 1).await?;
    let access = accesses.first().ok_or_else(Problem::not_found)?;
    Ok(fhir(&audit_event(access)))
}

fn fhir(resource: &Value) -> Response {
    ([(header::CONTENT_TYPE, FHIR_JSON)], resource.to_string()).into_response()
}

fn read_patient(text: &str) -> Result<Uuid, Problem> {
    let id = text.strip_prefix("Patient/").unwrap_or(text);
    id_of("Patient", id).ok_or_else(|| Problem::invalid_parameter("patient", "A patient's id is expected."))
}

type Bounds = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

fn read_date(text: &str) -> Result<Bounds, Problem> {
    let (prefix, day) =
        ["ge", "le", "eq"].into_iter().find_map(|it| Some((it, text.strip_prefix(it)?))).unwrap_or(("eq", text));
    let refuse = || Problem::invalid_parameter("date", "A day such as 2026-11-25, or with ge or le before it.");
    let day: NaiveDate = day.parse().map_err(|_| refuse())?;
    let start = |day: NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc();
    let (from, to) = (start(day), start(day.checked_add_days(Days::new(1)).ok_or_else(refuse)?));
    Ok(match prefix {
        "ge" => (Some(from), None),
        "le" => (None, Some(to)),
        _ => (Some(from), Some(to)),
    })
}

/// The same search, further on.
fn next_link(params: &AuditParams, limit: i64, cursor: &str) -> String {
    let mut link = format!("AuditEvent?_count={limit}&cursor={cursor}");
    let given =
        [("patient", &params.patient), ("agent", &params.agent), ("date", &params.date), ("_format", &params.format)];
    for (name, value) in given {
        if let Some(value) = value {
            let value: String = value.bytes().map(escape).collect();
            link.push_str(&format!("&{name}={value}"));
        }
    }
    link
}

/// Percent-encodes what is not unreserved (RFC 3986).
fn escape(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}
