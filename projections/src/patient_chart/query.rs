//! Sections of a chart, a page of each.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use nexus_domain::fhir::naming;
use nexus_web::problem::Problem;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::{NAME, Section, context};
use crate::medicines;
use crate::query_api::{Access, Part, QueryApi, Sealed, database_problem, page};
use crate::rows::StatedTime;

/// An entry of the chart.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChartEntry {
    pub resource_type: String,
    pub id: Uuid,
    #[schema(example = "active")]
    pub status: Option<String>,
    /// What changes how it is to be taken: `unconfirmed`, `provisional`, `differential`, `refuted`, `not-to-be-given`,
    /// `proposal`, `plan`, `option`, `not-done`, `not-taken`, `subpotent`. Null where it is simply so.
    #[schema(example = "differential")]
    pub qualifier: Option<String>,
    #[schema(example = "http://snomed.info/sct")]
    pub system: Option<String>,
    #[schema(example = "44054006")]
    pub code: Option<String>,
    /// What it is called: in words, else by its code, else by what kind of resource it is.
    #[schema(example = "Diabetes mellitus type 2")]
    pub display: String,
    /// The first moment of the clinical time; null if none is stated: then the entry stands where it was recorded.
    pub start: Option<DateTime<Utc>>,
    /// The clinical time as it was stated.
    pub occurred: Option<StatedTime>,
    pub end: Option<DateTime<Utc>>,
    /// The version of the resource.
    pub sequence: i64,
    /// What else the section shows, as FHIR elements.
    #[schema(value_type = Object)]
    pub details: Map<String, Value>,
}

/// Where a page of a section ended.
pub(super) type Key = (i16, DateTime<Utc>, Uuid);

/// A row, still sealed.
#[derive(FromRow)]
pub(super) struct Row {
    section: String,
    resource_type: String,
    id: Uuid,
    status: Option<String>,
    standing: i16,
    system: Option<String>,
    code: Option<String>,
    started_at: DateTime<Utc>,
    occurred: Option<Json<StatedTime>>,
    ended_at: Option<DateTime<Utc>>,
    sequence: i64,
    qualifier: Option<String>,
    level: i16,
    #[sqlx(json)]
    all_codes: Vec<String>,
    medicine: Option<Uuid>,
    medicine_name: Option<Vec<u8>>,
    sealed: Vec<u8>,
}

#[derive(Deserialize)]
struct Private {
    display: Option<String>,
    details: Map<String, Value>,
}

const OF_SECTIONS: &str = "
    select asked.section, resource_type, id, status, standing, system, code, started_at, occurred, ended_at, sequence,
        qualifier, level, all_codes, medicine, medicine_name, sealed
    from unnest($2::text[]) as asked (section)
    cross join lateral (
        select * from shown
        where patient = $1 and section = asked.section and standing < 2
            and ($4::smallint is null or standing > $4
                or (standing = $4 and (started_at < $5 or (started_at = $5 and id > $6))))
        order by standing, started_at desc, id
        limit $3
    ) as entry";

pub(super) async fn exists(api: &QueryApi, patient: Uuid) -> Result<bool, Problem> {
    sqlx::query_scalar("select exists (select from patients where patient = $1)")
        .bind(patient)
        .fetch_one(&api.pool(NAME))
        .await
        .map_err(database_problem)
}

/// What the caller is shown of these sections after `key`, one more than the limit of each if there is more.
pub(super) async fn shown(
    api: &QueryApi,
    access: &Access<'_>,
    patient: Uuid,
    sections: &[Section],
    limit: i64,
    key: Option<Key>,
) -> Result<BTreeMap<String, Vec<Row>>, Problem> {
    let mut found = rows(api, patient, sections, limit + 1, key).await?;
    let shows = |row: &Row| access.shows(&row.part());
    for section in sections {
        let Some(of_section) = found.get_mut(section.as_str()) else { continue };
        if !of_section.iter().all(shows) {
            let read = |key, count| async move {
                let mut rows = rows(api, patient, &[*section], count, key).await?;
                Ok(rows.remove(section.as_str()).unwrap_or_default())
            };
            *of_section = page::fill(limit, key, read, Row::key, shows).await?;
        }
    }
    Ok(found)
}

/// So many rows of each of these sections after `key`.
async fn rows(
    api: &QueryApi,
    patient: Uuid,
    sections: &[Section],
    count: i64,
    key: Option<Key>,
) -> Result<BTreeMap<String, Vec<Row>>, Problem> {
    let names: Vec<_> = sections.iter().map(|section| section.as_str()).collect();
    let rows: Vec<Row> = sqlx::query_as(OF_SECTIONS)
        .bind(patient)
        .bind(names)
        .bind(count)
        .bind(key.map(|(standing, _, _)| standing))
        .bind(key.map(|(_, started_at, _)| started_at))
        .bind(key.map(|(_, _, id)| id))
        .fetch_all(&api.pool(NAME))
        .await
        .map_err(database_problem)?;
    let mut by_section: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows {
        by_section.entry(row.section.clone()).or_default().push(row);
    }
    Ok(by_section)
}

impl Row {
    pub(super) fn key(&self) -> Key {
        (self.standing, self.started_at, self.id)
    }

    fn part(&self) -> Part<'_> {
        Part { resource_type: &self.resource_type, codes: &self.all_codes, sensitivity: self.level }
    }

    fn sealed(&self, patient: Uuid) -> Sealed {
        let context = context(&self.resource_type, self.id);
        Sealed { subject: patient, context, bytes: self.sealed.clone() }
    }

    /// The medicine whose name this row has to borrow.
    fn borrows(&self, private: Option<&Private>) -> Option<(Uuid, Vec<u8>)> {
        private.filter(|private| private.display.is_none())?;
        Some((self.medicine?, self.medicine_name.clone()?))
    }

    fn entry(self, private: Private, medicine: Option<String>) -> ChartEntry {
        let display = private.display.or(medicine).unwrap_or_else(|| naming::type_in_words(&self.resource_type));
        ChartEntry {
            resource_type: self.resource_type,
            id: self.id,
            status: self.status,
            qualifier: self.qualifier,
            system: self.system,
            code: self.code,
            display,
            start: self.occurred.is_some().then_some(self.started_at),
            occurred: self.occurred.map(|Json(occurred)| occurred),
            end: self.ended_at,
            sequence: self.sequence,
            details: private.details,
        }
    }
}

/// Opens rows in one go.
pub(super) async fn open(api: &QueryApi, patient: Uuid, rows: Vec<Row>) -> Result<Vec<ChartEntry>, Problem> {
    let private: Vec<Option<Private>> = api.open(rows.iter().map(|row| row.sealed(patient)).collect()).await?;
    let borrowed = rows.iter().zip(&private).map(|(row, private)| row.borrows(private.as_ref())).collect();
    let medicines = medicines::open_names(api, NAME, borrowed).await?;
    let opened = rows.into_iter().zip(private).zip(medicines);
    Ok(opened.filter_map(|((row, private), medicine)| Some(row.entry(private?, medicine))).collect())
}
