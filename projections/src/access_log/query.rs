//! Accesses, newest first.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use nexus_web::problem::Problem;
use serde::Serialize;
use sqlx::{FromRow, Postgres, QueryBuilder};
use uuid::Uuid;

use super::apply::Private;
use super::{NAME, actor_hash, context};
use crate::query_api::{QueryApi, Sealed, database_problem, page};

/// Which accesses are asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub patient: Option<Uuid>,
    pub actor: Option<String>,
    pub from: Option<DateTime<Utc>>,
    /// Exclusive.
    pub to: Option<DateTime<Utc>>,
    /// `unknown` for those that were never completed.
    pub outcome: Option<String>,
    /// Only accesses that showed something, or may have: a refusal saw nothing.
    pub may_have_seen: bool,
    pub id: Option<Uuid>,
}

/// One access, as an auditor sees it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// The id of the access, and of its request.
    pub id: Uuid,
    pub at: DateTime<Utc>,
    /// Who, as the issuer names them.
    pub actor: String,
    pub roles: Vec<String>,
    /// The program that they used.
    pub client: Option<String>,
    /// The other end of the connection.
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    pub method: String,
    pub route: String,
    /// What was asked of the policy.
    #[schema(example = json!(["ReadChart"]))]
    pub actions: Vec<String>,
    /// What it was for: a code of HL7's PurposeOfUse.
    #[schema(example = "TREAT")]
    pub purpose: String,
    /// The strictest that the policy said: allow, deny, hide, or none if it was not asked.
    pub decision: Option<String>,
    /// success, refused, failed, interrupted, or unknown: the process ended before it could say.
    pub outcome: String,
    pub status: Option<i32>,
    pub completed_at: Option<DateTime<Utc>>,
    pub break_glass: bool,
    /// Whose data it was, as far as they are not erased.
    pub patients: Vec<Uuid>,
    /// How many patients there were in all.
    pub patients_total: i32,
    /// The resource that the path named, where it is not a patient.
    pub target: Option<Uuid>,
    pub target_type: Option<String>,
    /// The names of the query parameters that were used.
    pub parameters: Vec<String>,
}

/// One access, as the patient sees it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnAccess {
    pub id: Uuid,
    pub at: DateTime<Utc>,
    /// Who, as the issuer names them.
    pub actor: String,
    pub roles: Vec<String>,
    pub actions: Vec<String>,
    pub purpose: String,
    pub outcome: String,
    pub break_glass: bool,
}

impl From<Access> for OwnAccess {
    fn from(access: Access) -> Self {
        let Access { id, at, actor, roles, actions, purpose, outcome, break_glass, .. } = access;
        Self { id, at, actor, roles, actions, purpose, outcome, break_glass }
    }
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    opened_at: DateTime<Utc>,
    roles: String,
    method: String,
    route: String,
    purpose: String,
    target: Option<Uuid>,
    lane: Uuid,
    sealed: Vec<u8>,
    completed_at: Option<DateTime<Utc>>,
    outcome: Option<String>,
    status: Option<i32>,
    decision: Option<String>,
    actions: Option<String>,
    break_glass: Option<bool>,
    patients_total: Option<i32>,
    target_type: Option<String>,
    parameters: Option<String>,
    patients: Vec<Uuid>,
}

/// A page of accesses before `before`, and whether there are more.
pub(super) async fn list(
    api: &QueryApi,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<(Vec<Access>, bool), Problem> {
    let mut query = statement(api, filter, before, limit);
    let mut rows: Vec<Row> = query.build_query_as().fetch_all(&api.pool(NAME)).await.map_err(database_problem)?;
    let more = page::cut(&mut rows, limit);
    Ok((open(api, rows).await?, more))
}

/// Only the conditions that are asked for, so that each statement can use the index that fits it.
fn statement<'a>(api: &QueryApi, filter: &'a Filter, before: Option<Uuid>, limit: i64) -> QueryBuilder<'a, Postgres> {
    let mut query = QueryBuilder::new(
        "select a.*, array(select p.patient from access_patients p where p.access = a.id order by 1) as patients
         from accesses a where a.opened_at is not null",
    );
    if let Some(patient) = filter.patient {
        query.push(" and a.id in (select p.access from access_patients p where p.patient = ").push_bind(patient);
        query.push(")");
    }
    if let Some(actor) = &filter.actor {
        query.push(" and a.actor = ").push_bind(actor_hash(api.keyring(), actor).to_vec());
    }
    if let Some(from) = filter.from {
        query.push(" and a.id >= ").push_bind(first_id_at(from));
    }
    if let Some(to) = filter.to {
        query.push(" and a.id < ").push_bind(first_id_at(to));
    }
    match filter.outcome.as_deref() {
        None => {}
        Some("unknown") => drop(query.push(" and a.outcome is null")),
        Some(outcome) => drop(query.push(" and a.outcome = ").push_bind(outcome)),
    }
    if filter.may_have_seen {
        query.push(
            " and coalesce(a.decision, 'allow') = 'allow' and coalesce(a.outcome, '') not in ('refused', 'failed')",
        );
    }
    if let Some(id) = filter.id {
        query.push(" and a.id = ").push_bind(id);
    }
    if let Some(before) = before {
        query.push(" and a.id < ").push_bind(before);
    }
    query.push(" order by a.id desc limit ").push_bind(limit + 1);
    query
}

/// The least id that a request of this millisecond can have (RFC 9562, version 7).
fn first_id_at(at: DateTime<Utc>) -> Uuid {
    let milliseconds = u64::try_from(at.timestamp_millis()).unwrap_or(0);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
    Uuid::from_bytes(bytes)
}

/// Opens a page. The rows are sealed with keys of the access log's lanes: no patient's data is opened here.
async fn open(api: &QueryApi, rows: Vec<Row>) -> Result<Vec<Access>, Problem> {
    let sealed =
        rows.iter().map(|row| Sealed { subject: row.lane, context: context(row.id), bytes: row.sealed.clone() });
    let private: Vec<Option<Private>> = api.open_of_no_patient(sealed.collect()).await?;
    Ok(rows.into_iter().zip(private).filter_map(|(row, private)| Some(row.access(private?))).collect())
}

impl Row {
    fn access(self, private: Private) -> Access {
        Access {
            id: self.id,
            at: self.opened_at,
            actor: private.actor,
            roles: words(Some(&self.roles)),
            client: private.client,
            address: private.address,
            method: self.method,
            route: self.route,
            actions: words(self.actions.as_deref()),
            purpose: self.purpose,
            decision: self.decision,
            outcome: self.outcome.unwrap_or_else(|| "unknown".to_owned()),
            status: self.status,
            completed_at: self.completed_at,
            break_glass: self.break_glass.unwrap_or(false),
            patients_total: self
                .patients_total
                .unwrap_or_else(|| i32::try_from(self.patients.len()).unwrap_or(i32::MAX)),
            patients: self.patients,
            target: self.target,
            target_type: self.target_type,
            parameters: words(self.parameters.as_deref()),
        }
    }
}

fn words(text: Option<&str>) -> Vec<String> {
    text.into_iter().flat_map(|text| text.split(',')).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_moment_begin_where_it_does() {
        let now = Utc::now();
        let id = Uuid::now_v7();
        assert!(first_id_at(now) <= id);
        assert!(id < first_id_at(now + chrono::TimeDelta::seconds(5)));
    }
}
