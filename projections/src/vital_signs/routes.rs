//! `GET /v1/patients/{id}/vital-signs`.

use std::borrow::Cow;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use nexus_auth::policy::Action;
use nexus_domain::fhir::{FhirDateTime, Precision};
use nexus_web::extract::{Path, Query};
use nexus_web::pipeline::Authenticated;
use nexus_web::problem::{Problem, ProblemBody};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::NAME;
use super::query::{self, Key, Series, VitalSign};
use crate::query_api::page::{self, Page};
use crate::query_api::{After, QueryApi};
use crate::rows;

/// The routes of this read model.
pub fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(list_vital_signs))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SeriesParams {
    /// The code of the value, with its system before a bar (`system|code`) or alone. Components have codes of their own.
    #[param(example = "8480-6")]
    code: Option<String>,
    /// The first moment: a date, or a date and time with a zone. Values of a partial date or a period are there if they can
    /// lie in the time that is asked for.
    from: Option<String>,
    /// The last moment, all of it: a date includes the day.
    to: Option<String>,
    /// Whether to include what was taken back (entered in error or cancelled), whatever its value; not unless told.
    entered_in_error: Option<bool>,
    /// Values of a page, from 1 to 500; 50 unless told.
    limit: Option<u32>,
    /// Where a page before this one ended.
    cursor: Option<String>,
    /// A position token: answer only once this write has been seen.
    position: Option<String>,
}

/// List what was measured of a patient, newest first.
///
/// In the order of the first moment at which it can have been measured; what states no time comes last. A number has a
/// `comparator` where only bounds of it are known. What is about somebody or something else (a fetus, a donor, a device) or has
/// a modifier that is not understood is not here: it stands in the timeline and is read as a resource.
#[utoipa::path(
    get,
    path = "/v1/patients/{id}/vital-signs",
    tag = "Patients",
    params(("id" = Uuid, Path, description = "The patient's id"), SeriesParams, After),
    responses(
        (status = 200, description = "Values, newest first", body = Page<VitalSign>),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn list_vital_signs(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Path(patient): Path<Uuid>,
    Query(params): Query<SeriesParams>,
    after: After,
) -> Result<Json<Page<VitalSign>>, Problem> {
    let after = after.and(params.position.as_deref())?;
    let access = api.access(&caller, Action::ReadVitalSigns, patient, &after).await?;
    let limit = page::limit(params.limit)?;
    let series = read_series(patient, &params)?;
    let scope = scope(&params, patient);
    let key: Option<Key> = api.cursor_key(&scope, params.cursor.as_deref())?;
    api.wait(NAME, &after).await?;
    if !query::exists(&api, patient).await? || api.is_erased(patient).await? {
        return Err(Problem::not_found());
    }
    let mut rows = query::shown(&api, &access, &series, key, limit).await?;
    let more = page::cut(&mut rows, limit);
    let next = rows.last().filter(|_| more).map(|row| api.cursor(&scope, &row.key()));
    Ok(Json(Page { items: query::open(&api, patient, rows).await?, next }))
}

fn read_series(patient: Uuid, params: &SeriesParams) -> Result<Series, Problem> {
    let (system, code) = match params.code.as_deref().map(|text| text.rsplit_once('|').ok_or(text)) {
        None => (None, None),
        Some(Ok((system, code))) => (Some(rows::column(system)), Some(rows::column(code))),
        Some(Err(code)) => (None, Some(rows::column(code))),
    };
    if code.as_deref() == Some("") {
        return Err(Problem::invalid_parameter("code", "A code, or system|code, is expected."));
    }
    let from = params.from.as_deref().map(|text| time("from", text)).transpose()?;
    let to = params.to.as_deref().map(|text| time("to", text)).transpose()?;
    Ok(Series {
        patient,
        system: system.map(Cow::into_owned),
        code: code.map(Cow::into_owned),
        from: from.map(|from| from.earliest),
        until: to.map(until),
        with_errors: params.entered_in_error == Some(true),
    })
}

fn time(name: &str, text: &str) -> Result<FhirDateTime, Problem> {
    let problem = || Problem::invalid_parameter(name, "A date such as 2026-11-24, or with time and zone.");
    FhirDateTime::parse(text).ok_or_else(problem)
}

/// The first moment after all that `to` can mean.
fn until(to: FhirDateTime) -> DateTime<Utc> {
    let step = if to.precision == Precision::Instant { TimeDelta::microseconds(1) } else { TimeDelta::milliseconds(1) };
    to.latest() + step
}

/// A cursor belongs to the list with exactly these filters.
fn scope(params: &SeriesParams, patient: Uuid) -> String {
    let filters = (&params.code, &params.from, &params.to, params.entered_in_error);
    format!("vital-signs/{patient}/{filters:?}")
}
