//! Which alerts stand.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use nexus_web::problem::Problem;
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::NAME;
use crate::people::{self, Person};
use crate::query_api::{QueryApi, Sealed, database_problem};

/// An alert that stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StandingAlert {
    pub alert: Uuid,
    pub patient: Uuid,
    pub person: Person,
    pub encounter: Uuid,
    /// Where the patient is now, where the record says so.
    pub location: Option<Uuid>,
    /// `low-medium`, `medium` or `high`.
    #[schema(example = "high")]
    pub risk: String,
    /// The NEWS2 score when the risk last changed; the least that it can be, if anything is undecided.
    #[schema(example = 8)]
    pub score: Option<i16>,
    /// What the score leaves out, because it was not measured or only bounds of it are known: `respiration`, `saturation`,
    /// `oxygen`, `blood-pressure`, `pulse`, `consciousness`, `temperature`.
    #[schema(example = json!(["saturation"]))]
    pub undecided: Vec<String>,
    pub raised_at: Option<DateTime<Utc>>,
    pub changed_at: DateTime<Utc>,
}

#[derive(FromRow)]
pub(crate) struct Row {
    pub alert: Uuid,
    sequence: i64,
    /// The version of the person's entry, if there is any.
    person_sequence: Option<i64>,
    patient: Uuid,
    encounter: Uuid,
    location: Option<Uuid>,
    risk: String,
    score: Option<i16>,
    undecided: Vec<String>,
    raised_at: Option<DateTime<Utc>>,
    changed_at: DateTime<Utc>,
    person: Option<Vec<u8>>,
}

const STANDING: &str = "
    select alert, alerts.sequence, people.sequence as person_sequence, alerts.patient, encounter, location, risk, score,
        undecided, raised_at, changed_at, people.sealed as person
    from alerts left join stays using (encounter) left join people on people.patient = alerts.patient
    where risk is not null and ($1::uuid is null or location = $1) and ($2::uuid is null or alerts.patient = $2)
        and ($3::uuid is null or alert > $3)
    order by alert
    limit $4";

/// Whose alerts.
pub(crate) enum Of {
    Ward(Uuid),
    Patient(Uuid),
}

/// One more row than the limit.
pub(crate) async fn standing(api: &QueryApi, of: Of, after: Option<Uuid>, limit: i64) -> Result<Vec<Row>, Problem> {
    let (location, patient) = match of {
        Of::Ward(location) => (Some(location), None),
        Of::Patient(patient) => (None, Some(patient)),
    };
    sqlx::query_as(STANDING)
        .bind(location)
        .bind(patient)
        .bind(after)
        .bind(limit + 1)
        .fetch_all(&api.pool(NAME))
        .await
        .map_err(database_problem)
}

pub(super) async fn exists(api: &QueryApi, patient: Uuid) -> Result<bool, Problem> {
    sqlx::query_scalar("select exists (select from people where patient = $1)")
        .bind(patient)
        .fetch_one(&api.pool(NAME))
        .await
        .map_err(database_problem)
}

/// Opens a page. Who is not known here (yet) has no name; of whom the key is gone, there is nothing to show.
pub(crate) async fn open(api: &QueryApi, rows: Vec<Row>) -> Result<Vec<StandingAlert>, Problem> {
    let patients: Vec<Uuid> = rows.iter().filter(|row| row.person.is_some()).map(|row| row.patient).collect();
    let people: Vec<Option<Person>> = api.open(rows.iter().filter_map(Row::person).collect()).await?;
    let people: HashMap<Uuid, Option<Person>> = patients.into_iter().zip(people).collect();
    let open = |row: Row| match people.get(&row.patient) {
        Some(None) => None,
        Some(Some(person)) => Some(row.alert(person.clone())),
        None => Some(row.alert(Person::default())),
    };
    Ok(rows.into_iter().filter_map(open).collect())
}

impl Row {
    /// Another one whenever the alert would read differently on the same ward.
    pub(crate) fn state(&self) -> (Uuid, i64, Option<i64>) {
        (self.alert, self.sequence, self.person_sequence)
    }

    fn person(&self) -> Option<Sealed> {
        let bytes = self.person.clone()?;
        Some(Sealed { subject: self.patient, context: people::context(NAME, self.patient), bytes })
    }

    fn alert(self, person: Person) -> StandingAlert {
        StandingAlert {
            alert: self.alert,
            patient: self.patient,
            person,
            encounter: self.encounter,
            location: self.location,
            risk: self.risk,
            score: self.score,
            undecided: self.undecided,
            raised_at: self.raised_at,
            changed_at: self.changed_at,
        }
    }
}
