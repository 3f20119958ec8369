//! A stretch of a timeline, in either direction.

use chrono::{DateTime, Utc};
use nexus_domain::fhir::naming;
use nexus_web::problem::Problem;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::{NAME, context, stated_at};
use crate::medicines;
use crate::query_api::{Access, Part, QueryApi, Sealed, database_problem, page};
use crate::rows::StatedTime;

/// One thing that happened.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimelineEntry {
    /// The first moment of the clinical time; null if none is stated: then the entry stands where it was recorded. A
    /// patient's own record has the time at which it was first recorded.
    pub occurred_at: Option<DateTime<Utc>>,
    /// The clinical time as it was stated.
    pub occurred: Option<StatedTime>,
    /// The resource type of what an observation is about, such as a `RelatedPerson` or a `Device`, if that is not the
    /// patient.
    #[schema(example = "RelatedPerson")]
    pub about: Option<String>,
    pub recorded_at: DateTime<Utc>,
    pub resource_type: String,
    pub id: Uuid,
    /// The last event about it.
    #[schema(example = "Recorded")]
    pub event: String,
    pub status: Option<String>,
    /// What changes how it is to be taken: `not-understood`, `unconfirmed`, `provisional`, `differential`, `refuted`,
    /// `not-to-be-given`, `not-to-be-done`, `proposal`, `plan`, `option`, `not-done`, `not-taken`, `potential`, `subpotent`.
    /// Null where it is simply so.
    #[schema(example = "differential")]
    pub qualifier: Option<String>,
    pub system: Option<String>,
    pub code: Option<String>,
    /// What it is called: in words, else by its code, else by what kind of resource it is.
    pub title: String,
    /// How many rules the recorded history breaks.
    pub notes: i32,
    /// The version of the resource.
    pub sequence: i64,
}

/// Where an entry stands in the order.
pub(super) type Key = (DateTime<Utc>, String, Uuid);

/// Which way to read from a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Direction {
    Older,
    Newer,
}

/// A page in the order in which it was read, and whether there is more that way.
pub(super) struct Stretch {
    pub rows: Vec<Row>,
    pub more: bool,
}

#[derive(FromRow)]
pub(super) struct Row {
    resource_type: String,
    id: Uuid,
    sequence: i64,
    occurred_at: DateTime<Utc>,
    occurred: Option<Json<StatedTime>>,
    about: Option<String>,
    recorded_at: DateTime<Utc>,
    event: String,
    status: Option<String>,
    qualifier: Option<String>,
    system: Option<String>,
    code: Option<String>,
    notes: i32,
    level: i16,
    #[sqlx(json)]
    all_codes: Vec<String>,
    medicine: Option<Uuid>,
    medicine_name: Option<Vec<u8>>,
    sealed: Vec<u8>,
}

const OLDER: &str = "
    select * from shown
    where patient = $1 and listed and ($2::timestamptz is null or (occurred_at, resource_type, id) < ($2, $3, $4))
    order by occurred_at desc, resource_type desc, id desc limit $5";

const NEWER: &str = "
    select * from shown
    where patient = $1 and listed and ($2::timestamptz is null or (occurred_at, resource_type, id) > ($2, $3, $4))
    order by occurred_at, resource_type, id limit $5";

/// Reads from a key (or from the end of time) in a direction what the caller is shown.
pub(super) async fn stretch(
    api: &QueryApi,
    access: &Access<'_>,
    patient: Uuid,
    direction: Direction,
    key: Option<Key>,
    limit: i64,
) -> Result<Stretch, Problem> {
    let read = |key, count| rows(api, patient, direction, key, count);
    let mut rows = page::fill(limit, key, read, Row::key, |row| access.shows(&row.part())).await?;
    let more = page::cut(&mut rows, limit);
    Ok(Stretch { rows, more })
}

async fn rows(
    api: &QueryApi,
    patient: Uuid,
    direction: Direction,
    key: Option<Key>,
    count: i64,
) -> Result<Vec<Row>, Problem> {
    let sql = if direction == Direction::Older { OLDER } else { NEWER };
    sqlx::query_as(sql)
        .bind(patient)
        .bind(key.as_ref().map(|(occurred_at, _, _)| *occurred_at))
        .bind(key.as_ref().map(|(_, resource_type, _)| resource_type.as_str()))
        .bind(key.as_ref().map(|(_, _, id)| *id))
        .bind(count)
        .fetch_all(&api.pool(NAME))
        .await
        .map_err(database_problem)
}

/// Whether there is anything of this patient: who is registered has at least that in the timeline.
pub(super) async fn exists(api: &QueryApi, patient: Uuid) -> Result<bool, Problem> {
    sqlx::query_scalar("select exists (select from entries where patient = $1)")
        .bind(patient)
        .fetch_one(&api.pool(NAME))
        .await
        .map_err(database_problem)
}

/// Opens a page.
pub(super) async fn open(api: &QueryApi, patient: Uuid, rows: Vec<Row>) -> Result<Vec<TimelineEntry>, Problem> {
    let sealed = rows.iter().map(|row| Sealed {
        subject: patient,
        context: context(&row.resource_type, row.id),
        bytes: row.sealed.clone(),
    });
    let titles: Vec<Option<Option<String>>> = api.open(sealed.collect()).await?;
    let borrowed = rows.iter().zip(&titles).map(|(row, title)| row.borrows(title.as_ref())).collect();
    let medicines = medicines::open_names(api, NAME, borrowed).await?;
    let opened = rows.into_iter().zip(titles).zip(medicines);
    Ok(opened.filter_map(|((row, title), medicine)| Some(row.entry(title?.or(medicine)))).collect())
}

impl Row {
    pub(super) fn key(&self) -> Key {
        (self.occurred_at, self.resource_type.clone(), self.id)
    }

    fn part(&self) -> Part<'_> {
        Part { resource_type: &self.resource_type, codes: &self.all_codes, sensitivity: self.level }
    }

    /// The medicine whose name this row has to borrow.
    fn borrows(&self, title: Option<&Option<String>>) -> Option<(Uuid, Vec<u8>)> {
        title.filter(|title| title.is_none())?;
        Some((self.medicine?, self.medicine_name.clone()?))
    }

    fn entry(self, title: Option<String>) -> TimelineEntry {
        let title = title.unwrap_or_else(|| naming::type_in_words(&self.resource_type));
        TimelineEntry {
            occurred_at: stated_at(self.occurred_at, self.occurred.as_ref(), &self.resource_type),
            occurred: self.occurred.map(|Json(occurred)| occurred),
            about: self.about,
            recorded_at: self.recorded_at,
            resource_type: self.resource_type,
            id: self.id,
            event: self.event,
            status: self.status,
            qualifier: self.qualifier,
            system: self.system,
            code: self.code,
            title,
            notes: self.notes,
            sequence: self.sequence,
        }
    }
}
