//! What happened to a patient, event by event, in the order of the log.

use chrono::{DateTime, Utc};
use nexus_domain::AnyEvent;
use nexus_domain::access::sensitivity;
use nexus_domain::fhir::{naming, stance};
use nexus_event_store::Keyring;
use nexus_web::problem::Problem;
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::apply::{about, name_of, stated};
use super::{NAME, change_context, is_of_a_patient, stated_at};
use crate::medicines;
use crate::query_api::{Part, QueryApi, Sealed, database_problem};
use crate::read_model::{ApplyError, Event};
use crate::rows::{self, StatedTime};

/// Whose timelines have changed behind these positions.
pub(crate) const WOKEN: &str = "
    select distinct patient from changes
    join unnest($1::integer[], $2::bigint[]) as since (partition, position) using (partition)
    where changes.position > since.position";

const INSERT: &str = "
    insert into changes (partition, position, patient, id, resource_type, sequence, occurred_at, recorded_at, event,
        status, system, code, qualifier, medicine, reasons, sensitivity, codes, sealed, occurred, about)
    select * from unnest($1::integer[], $2::bigint[], $3::uuid[], $4::uuid[], $5::text[], $6::bigint[],
        $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],
        $14::uuid[], $15::jsonb[], $16::smallint[], $17::jsonb[], $18::bytea[], $19::jsonb[], $20::text[])
    on conflict (partition, position) do nothing";

const AFTER: &str = "select * from shown_changes where patient = $1 and position > $2 order by position limit $3";

/// Adds a row per event; one that is there already stays.
pub(super) async fn apply(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    let events: Vec<&Event> = events.iter().filter(|event| is_of_a_patient(event)).collect();
    let resources = || events.iter().map(|event| event.fact.resource());
    let concepts = resources().map(rows::code_of);
    let (systems, codes): (Vec<_>, Vec<_>) = concepts.map(Option::unzip).unzip();
    sqlx::query(INSERT)
        .bind(events.iter().map(|event| event.partition).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.position).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.subject).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
        .bind(resources().map(|resource| resource.resource_type()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(events.iter().map(|event| occurred_at(event)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.recorded_at).collect::<Vec<_>>())
        .bind(events.iter().map(|event| name_of(event)).collect::<Vec<_>>())
        .bind(resources().map(|resource| rows::status_of(resource).map(rows::column)).collect::<Vec<_>>())
        .bind(systems)
        .bind(codes)
        .bind(resources().map(|resource| stance(resource).qualifier()).collect::<Vec<_>>())
        .bind(resources().map(medicines::medicine).collect::<Vec<_>>())
        .bind(resources().map(medicines::reasons).collect::<Vec<_>>())
        .bind(resources().map(sensitivity).collect::<Vec<_>>())
        .bind(resources().map(rows::codes).collect::<Vec<_>>())
        .bind(events.iter().map(|event| seal(event, keyring)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| stated(event)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| about(event)).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

/// The times in a patient's own record identify them: see [`super::apply`].
fn occurred_at(event: &Event) -> DateTime<Utc> {
    match event.fact {
        AnyEvent::Patient(_) => event.recorded_at,
        _ => rows::stands_at(event),
    }
}

fn seal(event: &Event, keyring: &Keyring) -> Vec<u8> {
    let resource = event.fact.resource();
    let context = change_context(resource.resource_type(), event.aggregate_id, event.sequence);
    rows::seal(keyring, event, &context, &naming::called(resource))
}

/// One event of a patient, as whoever follows is told.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimelineChange {
    /// Where it stands in the log; as `Nexus-Position` it makes other reads wait for it.
    #[schema(example = "3-1042")]
    pub position: String,
    pub recorded_at: DateTime<Utc>,
    /// The first moment of the clinical time; null if none is stated. Of a patient's own record, when it was recorded.
    pub occurred_at: Option<DateTime<Utc>>,
    /// The clinical time as it was stated.
    pub occurred: Option<StatedTime>,
    /// The resource type of what an observation is about, such as a `RelatedPerson` or a `Device`, if that is not the
    /// patient.
    pub about: Option<String>,
    pub resource_type: String,
    pub id: Uuid,
    /// The version of the resource that this event made.
    pub sequence: i64,
    #[schema(example = "Recorded")]
    pub event: String,
    pub status: Option<String>,
    /// As in the timeline.
    pub qualifier: Option<String>,
    pub system: Option<String>,
    pub code: Option<String>,
    /// What it is called.
    pub title: String,
}

#[derive(FromRow)]
pub(super) struct Row {
    partition: i32,
    pub(super) position: i64,
    patient: Uuid,
    id: Uuid,
    resource_type: String,
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
    level: i16,
    #[sqlx(json)]
    all_codes: Vec<String>,
    medicine: Option<Uuid>,
    medicine_name: Option<Vec<u8>>,
    sealed: Vec<u8>,
}

/// The events of a patient behind a position, the oldest first.
pub(super) async fn after(api: &QueryApi, patient: Uuid, position: i64, limit: i64) -> Result<Vec<Row>, Problem> {
    sqlx::query_as(AFTER)
        .bind(patient)
        .bind(position)
        .bind(limit)
        .fetch_all(&api.pool(NAME))
        .await
        .map_err(database_problem)
}

/// The position of a patient's newest event.
pub(super) async fn newest(api: &QueryApi, patient: Uuid) -> Result<i64, Problem> {
    sqlx::query_scalar("select coalesce(max(position), 0) from changes where patient = $1")
        .bind(patient)
        .fetch_one(&api.pool(NAME))
        .await
        .map_err(database_problem)
}

/// Whether more than so many events of a patient are behind a position.
pub(super) async fn exceeds(api: &QueryApi, patient: Uuid, position: i64, limit: i64) -> Result<bool, Problem> {
    let beyond = "select exists (select from changes where patient = $1 and position > $2 offset $3)";
    sqlx::query_scalar(beyond)
        .bind(patient)
        .bind(position)
        .bind(limit)
        .fetch_one(&api.pool(NAME))
        .await
        .map_err(database_problem)
}

/// Opens rows, each with its position.
pub(super) async fn open(api: &QueryApi, rows: Vec<Row>) -> Result<Vec<(i64, TimelineChange)>, Problem> {
    let sealed = rows.iter().map(|row| Sealed {
        subject: row.patient,
        context: change_context(&row.resource_type, row.id, row.sequence),
        bytes: row.sealed.clone(),
    });
    let titles: Vec<Option<Option<String>>> = api.open(sealed.collect()).await?;
    let borrowed = rows.iter().zip(&titles).map(|(row, title)| row.borrows(title.as_ref())).collect();
    let medicines = medicines::open_names(api, NAME, borrowed).await?;
    let opened = rows.into_iter().zip(titles).zip(medicines);
    Ok(opened.filter_map(|((row, title), medicine)| Some((row.position, row.change(title?.or(medicine))))).collect())
}

impl Row {
    pub(super) fn part(&self) -> Part<'_> {
        Part { resource_type: &self.resource_type, codes: &self.all_codes, sensitivity: self.level }
    }

    /// The medicine whose name this row has to borrow.
    fn borrows(&self, title: Option<&Option<String>>) -> Option<(Uuid, Vec<u8>)> {
        title.filter(|title| title.is_none())?;
        Some((self.medicine?, self.medicine_name.clone()?))
    }

    fn change(self, title: Option<String>) -> TimelineChange {
        let title = title.unwrap_or_else(|| naming::type_in_words(&self.resource_type));
        TimelineChange {
            position: format!("{}-{}", self.partition, self.position),
            recorded_at: self.recorded_at,
            occurred_at: stated_at(self.occurred_at, self.occurred.as_ref(), &self.resource_type),
            occurred: self.occurred.map(|Json(occurred)| occurred),
            about: self.about,
            resource_type: self.resource_type,
            id: self.id,
            sequence: self.sequence,
            event: self.event,
            status: self.status,
            qualifier: self.qualifier,
            system: self.system,
            code: self.code,
            title,
        }
    }
}
