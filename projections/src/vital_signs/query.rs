//! A stretch of a series.

use chrono::{DateTime, Utc};
use nexus_web::problem::Problem;
use serde::Serialize;
use serde_json::{Number, Value};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::{NAME, Private, UnitCoding, context};
use crate::query_api::{Access, Part, QueryApi, Sealed, database_problem, page};
use crate::rows::StatedTime;

/// What was measured.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VitalSign {
    #[schema(example = "http://loinc.org")]
    pub system: Option<String>,
    #[schema(example = "8480-6")]
    pub code: Option<String>,
    /// The FHIR element that has the result: `valueQuantity` if it is a number, else such as `valueRange` or
    /// `valueCodeableConcept`, or `dataAbsentReason` if there is none.
    #[schema(example = "valueQuantity")]
    pub kind: String,
    /// The number, with the digits that were recorded; null if the result is none.
    #[schema(value_type = Option<f64>, example = 120.0)]
    pub value: Option<Number>,
    /// `<`, `<=`, `>=`, `>` or `ad`: how the true value lies to the number, of which it is a part. Null if it is the number.
    #[schema(example = ">")]
    pub comparator: Option<String>,
    /// The UCUM code of the unit; null if it is not coded in UCUM.
    #[schema(example = "mm[Hg]")]
    pub unit: Option<String>,
    /// A unit that is not coded in UCUM, in the words that came. It is for people to read, not to calculate with.
    #[schema(example = "bpm")]
    pub unit_text: Option<String>,
    /// The code of the unit in another system than UCUM.
    pub unit_coding: Option<UnitCoding>,
    /// A result that is no number, as the FHIR element that it is. Samples, and what is too large for a list, are read with
    /// the resource.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    /// The first moment at which it can have been measured; null if nothing is said of that.
    pub effective_at: Option<DateTime<Utc>>,
    /// When it was measured, as it was stated.
    pub effective: Option<StatedTime>,
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

/// Where a page ended. What has no time stands behind everything else.
pub(super) type Key = (Option<DateTime<Utc>>, Uuid, i16);

#[derive(FromRow)]
pub(super) struct Row {
    system: Option<String>,
    code: Option<String>,
    kind: String,
    value: Option<String>,
    comparator: Option<String>,
    unit: Option<String>,
    effective_at: Option<DateTime<Utc>>,
    effective: Option<Json<StatedTime>>,
    observation: Uuid,
    component: i16,
    coding: i16,
    status: String,
    sensitivity: i16,
    #[sqlx(json)]
    codes: Vec<String>,
    sealed: Option<Vec<u8>>,
}

/// What can have been measured in the time that is asked for. What has no time is there if none is asked for.
const PAGE: &str = "
    select system, code, kind, value, comparator, unit, nullif(effective_at, '-infinity') as effective_at, effective,
        observation, component, coding, status, sensitivity, sealed,
        (select codes from observations where observations.observation = measurements.observation) as codes
    from measurements
    where patient = $1
        and (($2::text is null and coding = 0) or code = $2)
        and ($3::text is null or system = $3)
        and ($4::timestamptz is null or effective_until >= $4)
        and ($5::timestamptz is null or (effective_at < $5 and effective_at > '-infinity'))
        and ($6 or status not in ('entered-in-error', 'cancelled'))
        and ($8::uuid is null or effective_at < coalesce($7::timestamptz, '-infinity')
            or (effective_at = coalesce($7, '-infinity') and (observation, component) > ($8, $9)))
    order by measurements.effective_at desc, observation, component
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
        .bind(key.and_then(|(effective_at, _, _)| effective_at))
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

    fn sealed(&self, patient: Uuid) -> Option<Sealed> {
        let context = context(self.observation, self.component, self.coding);
        Some(Sealed { subject: patient, context, bytes: self.sealed.clone()? })
    }

    fn vital_sign(self, private: Private) -> VitalSign {
        VitalSign {
            system: self.system.filter(|system| !system.is_empty()),
            code: self.code,
            kind: self.kind,
            value: self.value.and_then(|value| value.parse().ok()),
            comparator: self.comparator,
            unit: self.unit,
            unit_text: private.unit_text,
            unit_coding: private.unit_coding,
            result: private.result,
            effective_at: self.effective_at,
            effective: self.effective.map(|Json(effective)| effective),
            observation: self.observation,
            component: Some(self.component).filter(|index| *index >= 0),
            status: self.status,
        }
    }
}

/// Opens what is sealed of a page. Of an erased patient there is nothing to show.
pub(super) async fn open(api: &QueryApi, patient: Uuid, rows: Vec<Row>) -> Result<Vec<VitalSign>, Problem> {
    let sealed: Vec<Sealed> = rows.iter().filter_map(|row| row.sealed(patient)).collect();
    let mut opened = if sealed.is_empty() { Vec::new() } else { api.open(sealed).await? }.into_iter();
    let open = |row: Row| match row.sealed {
        None => Some(row.vital_sign(Private::default())),
        Some(_) => opened.next().flatten().map(|private| row.vital_sign(private)),
    };
    Ok(rows.into_iter().filter_map(open).collect())
}
