//! `GET /fhir/{type}/{id}`.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use nexus_auth::policy::{Action, ResourceContext};
use nexus_domain::access::Marks;
use nexus_domain::fhir::{Resource, id_of, is_directory_type, is_open, is_resource_type};
use nexus_web::extract::{Path, Query};
use nexus_web::media::{FHIR_JSON, require_fhir_json};
use nexus_web::pipeline::{Authenticated, authorize};
use nexus_web::problem::{Problem, ProblemBody};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{NAME, query};
use crate::query_api::{After, Part, QueryApi};

/// The routes of this read model.
pub fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(read_resource))
}

/// What a read takes beside what it names.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReadParams {
    /// A position token: answer only once this write has been seen.
    position: Option<String>,
    /// The media type of the answer, instead of `Accept`: `json`, `application/json` or `application/fhir+json`.
    #[serde(rename = "_format")]
    #[param(rename = "_format", example = "json")]
    format: Option<String>,
    /// Whether the answer is put into lines for people.
    #[serde(rename = "_pretty")]
    #[param(rename = "_pretty")]
    _pretty: Option<bool>,
}

/// Read a FHIR resource as it was sent.
///
/// The body is the JSON that came in, order and digits included; only references that named no resource are resolved,
/// and `meta.versionId` and `meta.lastUpdated` are added. What was put under an id that is no UUID is found under it, and
/// tells the UUID that it has here. What was entered in error says so and stays readable.
#[utoipa::path(
    get,
    path = "/fhir/{type}/{id}",
    tag = "FHIR",
    params(
        ("type" = String, Path, description = "The resource type", example = "Observation"),
        ("id" = String, Path, description = "The resource's id, or the one that it was put under"),
        ("If-None-Match" = Option<String>, Header, description = "A version, as in `ETag`: it is not sent again"),
        After, ReadParams,
    ),
    responses(
        (status = 200, description = "The resource", content_type = "application/fhir+json", body = Object,
         headers(("ETag" = String, description = "The version"), ("Last-Modified" = String))),
        (status = 304, description = "The caller has this version"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn read_resource(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Path((resource_type, id)): Path<(String, String)>,
    Query(params): Query<ReadParams>,
    headers: HeaderMap,
    after: After,
) -> Result<Response, Problem> {
    require_fhir_json(&headers, params.format.as_deref())?;
    let known = is_resource_type(&resource_type).then(|| id_of(&resource_type, &id)).flatten();
    let Some(id) = known else { return Err(Problem::not_found()) };
    let after = after.and(params.position.as_deref())?;
    api.wait(NAME, &after).await?;
    let Some(found) = query::find(&api, &resource_type, id).await? else {
        let action = if is_directory_type(&resource_type) { Action::ReadDirectory } else { Action::ReadFhir };
        authorize(&caller, action, &ResourceContext::none().of_type(&resource_type))?;
        return Err(Problem::not_found());
    };
    // Whose it is comes from the row, what it is from the resource; a caller who may not know gets the same answer as for
    // what is not there.
    let (subject, sequence, recorded_at) = (found.subject, found.sequence, found.recorded_at);
    let resource = query::open(&api, &resource_type, id, found).await?;
    let action = action_on(&resource_type, subject == id, resource.as_ref());
    let access = api.look(&caller, action, subject, &after).await?;
    let marks = match &resource {
        Some(resource) => query::marks(&api, resource).await?,
        None => Marks::default(),
    };
    access.authorize(&Part { resource_type: &resource_type, codes: &marks.codes, sensitivity: marks.sensitivity })?;
    let resource = resource.ok_or_else(Problem::not_found)?;
    if has_version(&headers, sequence) {
        return Ok(with_version(StatusCode::NOT_MODIFIED.into_response(), sequence, recorded_at));
    }
    answer(resource, sequence, recorded_at)
}

/// Whether the caller has what would be sent (RFC 9110, section 13.1.2).
fn has_version(headers: &HeaderMap, sequence: i64) -> bool {
    let own = format!("\"{sequence}\"");
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = known.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own)
}

/// What it takes to read it. A fact about no patient has itself as its subject: it is open like the directory if it
/// mentions nothing of a patient, and else to those only who may read any record without caring for anybody.
fn action_on(resource_type: &str, is_its_own: bool, resource: Option<&Resource>) -> Action {
    let is_directory =
        is_directory_type(resource_type) || is_its_own && resource_type != "Patient" && resource.is_some_and(is_open);
    if is_directory { Action::ReadDirectory } else { Action::ReadFhir }
}

fn answer(resource: Resource, sequence: i64, recorded_at: DateTime<Utc>) -> Result<Response, Problem> {
    let body = serde_json::to_vec(&with_meta(resource, sequence, recorded_at));
    let body = body.map_err(|error| Problem::from_error(&error))?;
    let response = ([(header::CONTENT_TYPE, FHIR_JSON)], body).into_response();
    Ok(with_version(response, sequence, recorded_at))
}

fn with_version(mut response: Response, sequence: i64, recorded_at: DateTime<Utc>) -> Response {
    let mut set = |name, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(name, value);
        }
    };
    set(header::ETAG, format!("W/\"{sequence}\""));
    set(header::LAST_MODIFIED, recorded_at.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
    response
}

/// Adds what is ours to say; everything else stays where and as it was.
fn with_meta(mut resource: Resource, sequence: i64, recorded_at: DateTime<Utc>) -> Resource {
    let members = resource.members_mut();
    if !members.get("meta").is_some_and(Value::is_object) {
        let place = members.keys().take(2).filter(|name| matches!(name.as_str(), "resourceType" | "id")).count();
        members.shift_insert(place, "meta".to_owned(), Value::Object(Map::new()));
    }
    if let Some(Value::Object(meta)) = members.get_mut("meta") {
        meta.insert("versionId".to_owned(), sequence.to_string().into());
        let updated = recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true);
        meta.insert("lastUpdated".to_owned(), updated.into());
    }
    resource
}
