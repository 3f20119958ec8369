//! `GET /v1/patients/{id}/chart`.

use axum::Json;
use axum::extract::State;
use nexus_auth::policy::Action;
use nexus_web::extract::{Path, Query};
use nexus_web::pipeline::Authenticated;
use nexus_web::problem::{Problem, ProblemBody};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::query::{self, ChartEntry, Key, Row};
use super::{NAME, Section};
use crate::query_api::{After, QueryApi, page};

/// The routes of this read model.
pub fn router() -> OpenApiRouter<QueryApi> {
    OpenApiRouter::new().routes(routes!(read_chart))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ChartParams {
    /// One section only; needed to go on with a cursor.
    section: Option<Section>,
    /// Entries of each section, from 1 to 500; 50 unless told.
    limit: Option<u32>,
    /// Where a page of the section ended.
    cursor: Option<String>,
    /// A position token: answer only once this write has been seen.
    position: Option<String>,
}

/// A patient's chart.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Chart {
    patient: Uuid,
    sections: Vec<ChartSection>,
}

/// One section of a chart: what is current first, then the newest.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ChartSection {
    section: Section,
    items: Vec<ChartEntry>,
    /// The `cursor` of the section's next page; null at its end.
    next: Option<String>,
}

/// Read a patient's chart.
///
/// Problems, allergies, medications, encounters, procedures, immunizations and documents; what is current comes first,
/// and what was entered in
/// error, or is changed by something that nobody here understands, is left out. What is not to be given, only planned, or
/// not certain says so in `qualifier`.
#[utoipa::path(
    get,
    path = "/v1/patients/{id}/chart",
    tag = "Patients",
    params(("id" = Uuid, Path, description = "The patient's id"), ChartParams, After),
    responses(
        (status = 200, description = "The chart", body = Chart),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn read_chart(
    State(api): State<QueryApi>,
    Authenticated(caller): Authenticated,
    Path(patient): Path<Uuid>,
    Query(params): Query<ChartParams>,
    after: After,
) -> Result<Json<Chart>, Problem> {
    let after = after.and(params.position.as_deref())?;
    let access = api.access(&caller, Action::ReadChart, patient, &after).await?;
    let limit = page::limit(params.limit)?;
    let key = read_cursor(&api, patient, &params)?;
    api.wait(NAME, &after).await?;
    if !query::exists(&api, patient).await? || api.is_erased(patient).await? {
        return Err(Problem::not_found());
    }
    let wanted = params.section.map_or(Section::ALL.to_vec(), |section| vec![section]);
    let mut rows = query::shown(&api, &access, patient, &wanted, limit, key).await?;
    let mut sections = Vec::with_capacity(wanted.len());
    for section in wanted {
        let rows = rows.remove(section.as_str()).unwrap_or_default();
        sections.push(answer(&api, patient, section, rows, limit).await?);
    }
    Ok(Json(Chart { patient, sections }))
}

async fn answer(
    api: &QueryApi,
    patient: Uuid,
    section: Section,
    mut rows: Vec<Row>,
    limit: i64,
) -> Result<ChartSection, Problem> {
    let more = page::cut(&mut rows, limit);
    let last = rows.last().filter(|_| more).map(Row::key);
    let next = last.map(|key| api.cursor(&scope(patient, section), &key));
    Ok(ChartSection { section, items: query::open(api, patient, rows).await?, next })
}

fn read_cursor(api: &QueryApi, patient: Uuid, params: &ChartParams) -> Result<Option<Key>, Problem> {
    match (params.section, params.cursor.as_deref()) {
        (Some(section), cursor) => api.cursor_key(&scope(patient, section), cursor),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Problem::invalid_parameter("section", "A cursor goes on with one section; name it.")),
    }
}

fn scope(patient: Uuid, section: Section) -> String {
    format!("chart/{patient}/{}", section.as_str())
}
