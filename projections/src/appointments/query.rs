//! A stretch of a calendar.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use nexus_web::problem::Problem;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use uuid::Uuid;

use super::{NAME, context};
use crate::people::{self, Person};
use crate::query_api::{QueryApi, Sealed, database_problem};

/// An appointment in a practitioner's calendar.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CalendarEntry {
    pub appointment: Uuid,
    #[schema(example = "booked")]
    pub status: String,
    pub start: DateTime<Utc>,
    pub end: Option<DateTime<Utc>>,
    pub patient: Uuid,
    pub person: Person,
    /// What it is about, in words.
    pub reason: Option<String>,
    pub description: Option<String>,
    pub comment: Option<String>,
}

/// The private part of a row.
#[derive(Serialize, Deserialize)]
pub(super) struct Private {
    pub reason: Option<String>,
    pub description: Option<String>,
    pub comment: Option<String>,
}

/// Where a page ended.
pub(super) type Key = (DateTime<Utc>, Uuid);

#[derive(FromRow)]
pub(super) struct Row {
    appointment: Uuid,
    patient: Uuid,
    status: String,
    starts_at: DateTime<Utc>,
    ends_at: Option<DateTime<Utc>>,
    sealed: Vec<u8>,
    person: Option<Vec<u8>>,
}

/// What begins in the stretch, and what has begun before and reaches into it. The first part reads a day more than the
/// stretch by the primary key, the second what lasts longer than that by an index of its own.
const OF_PRACTITIONER: &str = "
    select appointment, appointments.patient, status, it.starts_at, it.ends_at, appointments.sealed,
        people.sealed as person
    from (
        select appointment, starts_at, ends_at from calendars
        where practitioner = $1 and starts_at >= $2 - interval '24 hours' and starts_at < $3
            and (starts_at >= $2 or ends_at > $2)
        union all
        select appointment, starts_at, ends_at from calendars
        where practitioner = $1 and starts_at < $2 - interval '24 hours' and ends_at > $2
            and ends_at - starts_at > interval '24 hours'
    ) it
    join appointments using (appointment)
    left join people on people.patient = appointments.patient
    where ($4::timestamptz is null or (it.starts_at, appointment) > ($4, $5)) and status <> 'entered-in-error'
    order by it.starts_at, appointment
    limit $6";

/// One more row than the limit, in the order of the day: what lasts over midnight is in both days.
pub(super) async fn rows(
    api: &QueryApi,
    practitioner: Uuid,
    (from, until): (DateTime<Utc>, DateTime<Utc>),
    key: Option<Key>,
    limit: i64,
) -> Result<Vec<Row>, Problem> {
    sqlx::query_as(OF_PRACTITIONER)
        .bind(practitioner)
        .bind(from)
        .bind(until)
        .bind(key.map(|(starts_at, _)| starts_at))
        .bind(key.map(|(_, appointment)| appointment))
        .bind(limit + 1)
        .fetch_all(&api.pool(NAME))
        .await
        .map_err(database_problem)
}

/// Opens a page.
pub(super) async fn open(api: &QueryApi, rows: Vec<Row>) -> Result<Vec<CalendarEntry>, Problem> {
    let private: Vec<Option<Private>> = api.open(rows.iter().map(Row::sealed).collect()).await?;
    let patients: Vec<Uuid> = rows.iter().filter(|row| row.person.is_some()).map(|row| row.patient).collect();
    let people: Vec<Option<Person>> = api.open(rows.iter().filter_map(Row::person).collect()).await?;
    let people: HashMap<Uuid, Option<Person>> = patients.into_iter().zip(people).collect();
    let person = |patient: Uuid| people.get(&patient).cloned().flatten().unwrap_or_default();
    Ok(rows
        .into_iter()
        .zip(private)
        .filter_map(|(row, private)| {
            let person = person(row.patient);
            Some(row.entry(private?, person))
        })
        .collect())
}

impl Row {
    pub(super) fn key(&self) -> Key {
        (self.starts_at, self.appointment)
    }

    fn sealed(&self) -> Sealed {
        Sealed { subject: self.patient, context: context(self.appointment), bytes: self.sealed.clone() }
    }

    fn person(&self) -> Option<Sealed> {
        let bytes = self.person.clone()?;
        Some(Sealed { subject: self.patient, context: people::context(NAME, self.patient), bytes })
    }

    fn entry(self, private: Private, person: Person) -> CalendarEntry {
        CalendarEntry {
            appointment: self.appointment,
            status: self.status,
            start: self.starts_at,
            end: self.ends_at,
            patient: self.patient,
            person,
            reason: private.reason,
            description: private.description,
            comment: private.comment,
        }
    }
}
