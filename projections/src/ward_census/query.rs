//! Who is where.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use nexus_web::problem::Problem;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use uuid::Uuid;

use super::{NAME, context, place_context};
use crate::people::{self, Person};
use crate::query_api::{QueryApi, Sealed, database_problem};

/// A patient who is present.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CensusEntry {
    pub patient: Uuid,
    pub person: Person,
    pub encounter: Uuid,
    #[schema(example = "in-progress")]
    pub status: String,
    /// The encounter's class, such as `IMP` for an inpatient.
    #[schema(example = "IMP")]
    pub class: Option<String>,
    /// Why the patient is here, in words.
    pub reason: Option<String>,
    pub started_at: Option<DateTime<Utc>>,
    /// Since when at this place, where the record says so.
    pub located_at: Option<DateTime<Utc>>,
}

/// How many patients are at a place.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WardCount {
    /// Null for those whose encounter names no place.
    pub location: Option<Uuid>,
    pub name: Option<String>,
    pub patients: i64,
}

/// The private part of an encounter's row.
#[derive(Serialize, Deserialize)]
pub(super) struct Private {
    pub reason: Option<String>,
}

#[derive(FromRow)]
pub(crate) struct Row {
    pub encounter: Uuid,
    sequence: i64,
    /// The version of the person's entry, if there is any.
    person_sequence: Option<i64>,
    patient: Uuid,
    status: String,
    class: Option<String>,
    started_at: Option<DateTime<Utc>>,
    located_at: Option<DateTime<Utc>>,
    sealed: Vec<u8>,
    person: Option<Vec<u8>>,
}

const OF_WARD: &str = "
    select encounter, encounters.sequence, people.sequence as person_sequence, patient, status, class, started_at,
        located_at, encounters.sealed, people.sealed as person
    from encounters left join people using (patient)
    where present and location = $1 and ($2::uuid is null or encounter > $2)
    order by encounter
    limit $3";

const COUNTS: &str = "
    select location, places.sealed, count(distinct patient) as patients
    from encounters left join places using (location)
    where present and ($1::uuid is null or location > $1 or location is null)
    group by location, places.sealed
    order by location nulls last
    limit $2";

/// One more row than the limit.
pub(crate) async fn of_ward(
    api: &QueryApi,
    location: Uuid,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Row>, Problem> {
    sqlx::query_as(OF_WARD)
        .bind(location)
        .bind(after)
        .bind(limit + 1)
        .fetch_all(&api.pool(NAME))
        .await
        .map_err(database_problem)
}

/// Opens a page. An encounter whose patient is not known here (yet) has a person without a name.
pub(crate) async fn open(api: &QueryApi, rows: Vec<Row>) -> Result<Vec<CensusEntry>, Problem> {
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
    /// Another one whenever the entry would read differently.
    pub(crate) fn state(&self) -> (Uuid, i64, Option<i64>) {
        (self.encounter, self.sequence, self.person_sequence)
    }

    fn sealed(&self) -> Sealed {
        Sealed { subject: self.patient, context: context(self.encounter), bytes: self.sealed.clone() }
    }

    fn person(&self) -> Option<Sealed> {
        let bytes = self.person.clone()?;
        Some(Sealed { subject: self.patient, context: people::context(NAME, self.patient), bytes })
    }

    fn entry(self, private: Private, person: Person) -> CensusEntry {
        CensusEntry {
            patient: self.patient,
            person,
            encounter: self.encounter,
            status: self.status,
            class: self.class,
            reason: private.reason,
            started_at: self.started_at,
            located_at: self.located_at,
        }
    }
}

/// One more place than the limit, with its name opened.
pub(super) async fn counts(api: &QueryApi, after: Option<Uuid>, limit: i64) -> Result<Vec<WardCount>, Problem> {
    let rows: Vec<(Option<Uuid>, Option<Vec<u8>>, i64)> = sqlx::query_as(COUNTS)
        .bind(after)
        .bind(limit + 1)
        .fetch_all(&api.pool(NAME))
        .await
        .map_err(database_problem)?;
    let mut counts = Vec::with_capacity(rows.len());
    let sealed = rows.iter().filter_map(|(location, bytes, _)| {
        let location = (*location)?;
        Some(Sealed { subject: location, context: place_context(location), bytes: bytes.clone()? })
    });
    let mut names = api.open::<Option<String>>(sealed.collect()).await?.into_iter();
    for (location, bytes, patients) in rows {
        let name = bytes.and_then(|_| names.next().flatten().flatten());
        counts.push(WardCount { location, name, patients });
    }
    Ok(counts)
}
