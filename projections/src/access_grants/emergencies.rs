//! Cases of broken glass.

use chrono::{DateTime, Utc};
use nexus_web::problem::Problem;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use uuid::Uuid;

use super::{NAME, emergency_context};
use crate::query_api::{QueryApi, Sealed, database_problem};

/// A record that was opened in an emergency.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmergencyCase {
    pub id: Uuid,
    pub patient: Uuid,
    /// Who opened it: a practitioner of the directory.
    pub practitioner: Option<Uuid>,
    /// The same as an account of the issuer.
    pub account: Option<String>,
    pub reason: Option<String>,
    pub opened_at: DateTime<Utc>,
    /// When it ended or will end.
    pub ends_at: DateTime<Utc>,
    pub reviewed: bool,
    pub finding: Option<String>,
}

/// The private part of a row.
#[derive(Serialize, Deserialize)]
pub(super) struct Private {
    pub account: Option<String>,
    pub reason: Option<String>,
    pub finding: Option<String>,
}

/// Where a page ended.
pub(super) type Key = (DateTime<Utc>, Uuid);

#[derive(FromRow)]
pub(super) struct Row {
    emergency: Uuid,
    patient: Uuid,
    practitioner: Option<Uuid>,
    opened_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
    reviewed: bool,
    sealed: Vec<u8>,
}

const PAGE: &str = "
    select emergency, patient, practitioner, opened_at, ends_at, reviewed, sealed from emergencies
    where ($1 or not reviewed) and ($2::timestamptz is null or (opened_at, emergency) > ($2, $3))
    order by opened_at, emergency
    limit $4";

/// One more row than the limit, oldest first.
pub(super) async fn rows(api: &QueryApi, all: bool, key: Option<Key>, limit: i64) -> Result<Vec<Row>, Problem> {
    sqlx::query_as(PAGE)
        .bind(all)
        .bind(key.map(|(opened_at, _)| opened_at))
        .bind(key.map(|(_, emergency)| emergency))
        .bind(limit + 1)
        .fetch_all(&api.pool(NAME))
        .await
        .map_err(database_problem)
}

/// Opens a page.
pub(super) async fn open(api: &QueryApi, rows: Vec<Row>) -> Result<Vec<EmergencyCase>, Problem> {
    let private: Vec<Option<Private>> = api.open(rows.iter().map(Row::sealed).collect()).await?;
    Ok(rows.into_iter().zip(private).filter_map(|(row, private)| Some(row.case(private?))).collect())
}

impl Row {
    pub(super) fn key(&self) -> Key {
        (self.opened_at, self.emergency)
    }

    fn sealed(&self) -> Sealed {
        Sealed { subject: self.patient, context: emergency_context(self.emergency), bytes: self.sealed.clone() }
    }

    fn case(self, private: Private) -> EmergencyCase {
        EmergencyCase {
            id: self.emergency,
            patient: self.patient,
            practitioner: self.practitioner,
            account: private.account,
            reason: private.reason,
            opened_at: self.opened_at,
            ends_at: self.ends_at,
            reviewed: self.reviewed,
            finding: private.finding,
        }
    }
}
