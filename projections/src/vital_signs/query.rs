//! A stretch of a series.

use chrono::{DateTime, Utc};
use nexus_web::problem::Problem;
use serde::Serialize;
use serde_json::Number;
use sqlx::FromRow;
use uuid::Uuid;

use super::NAME;
use crate::query_api::{Access, Part, QueryApi, database_problem, page};

/// A measured value.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VitalSign {
    #[schema(example = "http://loinc.org")]
    pub system: Option<String>,
    #[schema(example = "8480-6")]
    pub code: Option<String>,
    /// With the digits that were recorded.
    #[schema(value_type = f64, example = 120.0)]
    pub value: Number,
    /// The UCUM code of the unit.
    #[schema(example = "mm[Hg]")]
    pub unit: Option<String>,
    pub effective_at: DateTime<Utc>,
    pub observation: Uuid,
    /// The place of the component within the observation; null if it is the observation's own value.
    pub component: Option<i16>,
    #[schema(example = "final")]
    pub status: String,
}

/// What is asked for.
pub(super) struct Series {
    pub patient: Uuid,
    pub system: Option<String>,
    pub code: Option<String>,
    pub from: Option<DateTime<Utc>>,
    /// Not included.
    pub until: Option<DateTime<Utc>>,
    pub with_errors: bool,
}

/// Where a page ended.
pub(super) type Key = (DateTime<Utc>, Uuid, i16);

#[derive(FromRow)]
pub(super) struct Row {
    system: Option<String>,
    code: Option<String>,
    value: String,
    unit: Option<String>,
    effective_at: DateTime<Utc>,
    observation: Uuid,
    component: i16,
    status: String,
    sensitivity: i16,
    #[sqlx(json)]
    codes: Vec<String>,
}

const PAGE: &str = "
    select system, code, value::text as value, unit, effective_at, observation, component, status, sensitivity,
        (select codes from observations where observations.observation = measurements.observation) as codes
    from measurements
    where patient = $1
        and (($2::text is null and coding = 0) or code = $2)
        and ($3::text is null or system = $3)
        and ($4::timestamptz is null or effective_at >= $4)
        and ($5::timestamptz is null or effective_at < $5)
        and ($6 or status not in ('entered-in-error', 'cancelled'))
        and ($7::timestamptz is null or effective_at < $7
            or (effective_at = $7 and (observation, component) > ($8, $9)))
    order by effective_at desc, observation, component
    limit $10";

/// What the caller is shown, newest first: one more than the limit if there is more.
pub(super) async fn shown(
    api: &QueryApi,
    access: &Access<'_>,
    series: &Series,
    key: Option<Key>,
    limit: i64,
) -> Result<Vec<Row>, Problem> {
    let read = |key, count| rows(api, series, key, count);
    page::fill(limit, key, read, Row::key, |row| access.shows(&row.part())).await
}

async fn rows(api: &QueryApi, series: &Series, key: Option<Key>, count: i64) -> Result<Vec<Row>, Problem> {
    sqlx::query_as(PAGE)
        .bind(series.patient)
        .bind(&series.code)
        .bind(&series.system)
        .bind(series.from)
        .bind(series.until)
        .bind(series.with_errors)
        .bind(key.map(|(effective_at, _, _)| effective_at))
        .bind(key.map(|(_, observation, _)| observation))
        .bind(key.map(|(_, _, component)| component))
        .bind(count)
        .fetch_all(&api.pool(NAME))
        .await
        .map_err(database_problem)
}

pub(super) async fn exists(api: &QueryApi, patient: Uuid) -> Result<bool, Problem> {
    sqlx::query_scalar("select exists (select from patients where patient = $1)")
        .bind(patient)
        .fetch_one(&api.pool(NAME))
        .await
        .map_err(database_problem)
}

impl Row {
    pub(super) fn key(&self) -> Key {
        (self.effective_at, self.observation, self.component)
    }

    fn part(&self) -> Part<'_> {
        Part { resource_type: "Observation", codes: &self.codes, sensitivity: self.sensitivity }
    }

    pub(super) fn vital_sign(self) -> Option<VitalSign> {
        Some(VitalSign {
            system: self.system.filter(|system| !system.is_empty()),
            code: self.code,
            value: self.value.parse().ok()?,
            unit: self.unit,
            effective_at: self.effective_at,
            observation: self.observation,
            component: Some(self.component).filter(|index| *index >= 0),
            status: self.status,
        })
    }
}
