//! `GET /v1/practitioners/{id}/appointments`.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Days, FixedOffset, NaiveDate, TimeZone, Utc};
use nexus_auth::policy::{Action, ResourceContext};
use nexus_web::extract::{Path, Query};
use nexus_web::pipeline::{Authenticated, authorize};
use nexus_web::problem::{Problem, ProblemBody};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::NAME;
use super::query::{self, CalendarEntry, Key, Row};
use crate::query_api::page::{self, Page};
use crate::query_api::{After, QueryApi};

/// The routes of this read model.
pub fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(list_appointments))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DayParams {
    /// The day.
    #[param(example = "2026-11-24")]
    date: String,
    /// The zone in which the day is meant, as an offset from UTC; `Z` unless told.
    #[param(example = "+01:00")]
    offset: Option<String>,
    /// Items of a page, from 1 to 500; 50 unless told.
    limit: Option<u32>,
    /// Where a page before this one ended.
    cursor: Option<String>,
    /// A position token: answer only once this write has been seen.
    position: Option<String>,
}

/// List a practitioner's appointments of a day.
///
/// In the order of their start. One that lasts over midnight is in the list of each day that it touches; those that were
/// cancelled or missed stay in the list with their status.
#[utoipa::path(
    get,
    path = "/v1/practitioners/{id}/appointments",
    tag = "Appointments",
    params(("id" = Uuid, Path, description = "The practitioner's id"), DayParams, After),
    responses(
        (status = 200, description = "The day", body = Page<CalendarEntry>),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn list_appointments(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Path(practitioner): Path<Uuid>,
    Query(params): Query<DayParams>,
    after: After,
) -> Result<Json<Page<CalendarEntry>>, Problem> {
    authorize(&caller, Action::ReadAppointments, &ResourceContext::none())?;
    let limit = page::limit(params.limit)?;
    let day = read_day(&params)?;
    let scope = format!("appointments/{practitioner}/{}/{}", day.0.timestamp(), day.1.timestamp());
    let key: Option<Key> = api.cursor_key(&scope, params.cursor.as_deref())?;
    api.wait(NAME, &after.and(params.position.as_deref())?).await?;
    let mut rows = query::rows(&api, practitioner, day, key, limit).await?;
    let more = page::cut(&mut rows, limit);
    let next = rows.last().filter(|_| more).map(Row::key).map(|key| api.cursor(&scope, &key));
    Ok(Json(Page { items: query::open(&api, rows).await?, next }))
}

/// The first moment of the day and the first after it.
fn read_day(params: &DayParams) -> Result<(DateTime<Utc>, DateTime<Utc>), Problem> {
    let not_a_date = || Problem::invalid_parameter("date", "A date such as 2026-11-24 is expected.");
    let ten = params.date.len() == "2026-11-24".len();
    let date = NaiveDate::parse_from_str(&params.date, "%Y-%m-%d").ok().filter(|_| ten).ok_or_else(not_a_date)?;
    let offset = read_offset(params.offset.as_deref())?;
    let start_of = |date: NaiveDate| {
        let midnight = date.and_hms_opt(0, 0, 0)?;
        Some(offset.from_local_datetime(&midnight).single()?.with_timezone(&Utc))
    };
    let next = date.checked_add_days(Days::new(1)).ok_or_else(not_a_date)?;
    start_of(date).zip(start_of(next)).ok_or_else(not_a_date)
}

fn read_offset(text: Option<&str>) -> Result<FixedOffset, Problem> {
    let text = text.filter(|text| *text != "Z").unwrap_or("+00:00");
    // A plus sign that was not encoded arrives as a space.
    let text = text.replacen(' ', "+", 1);
    let problem = || Problem::invalid_parameter("offset", "An offset such as +01:00, or Z, is expected.");
    let six = text.len() == "+01:00".len();
    text.parse().ok().filter(|_| six).ok_or_else(problem)
}
