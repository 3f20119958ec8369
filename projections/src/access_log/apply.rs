//! Batches into rows: one statement for the accesses, one for their patients.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nexus_access_log::batch::{Batch, Completed, Opened};
use nexus_domain::AnyEvent;
use nexus_event_store::{KeyError, Keyring, SubjectKey};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::erasures::AccessErasures;
use super::{actor_hash, context};
use crate::read_model::{ApplyError, Event, ReadModel};
use crate::rows;

/// What stands in the sealed part of a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Private {
    pub actor: String,
    pub client: Option<String>,
    pub address: Option<IpAddr>,
}

/// An opening and a completion meet here in either order. Partitions are applied concurrently, so both go into one
/// statement, and in the order of ids: two of them then never wait for each other.
const UPSERT: &str = "
    insert into accesses as a (id, opened_at, actor, roles, method, route, purpose, target, lane, sealed, completed_at,
        outcome, status, decision, actions, break_glass, patients_total, target_type, parameters, forgotten)
    select * from unnest($1::uuid[], $2::timestamptz[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::uuid[], $9::uuid[], $10::bytea[], $11::timestamptz[], $12::text[], $13::integer[], $14::text[], $15::text[],
        $16::boolean[], $17::integer[], $18::text[], $19::text[], $20::boolean[])
    order by 1
    on conflict (id) do update set
        opened_at = coalesce(excluded.opened_at, a.opened_at), actor = coalesce(excluded.actor, a.actor),
        roles = coalesce(excluded.roles, a.roles), method = coalesce(excluded.method, a.method),
        route = coalesce(excluded.route, a.route), purpose = coalesce(excluded.purpose, a.purpose),
        target = case when a.forgotten or excluded.forgotten then null else coalesce(excluded.target, a.target) end,
        lane = coalesce(excluded.lane, a.lane),
        sealed = coalesce(excluded.sealed, a.sealed), completed_at = coalesce(excluded.completed_at, a.completed_at),
        outcome = coalesce(excluded.outcome, a.outcome), status = coalesce(excluded.status, a.status),
        decision = coalesce(excluded.decision, a.decision), actions = coalesce(excluded.actions, a.actions),
        break_glass = coalesce(excluded.break_glass, a.break_glass),
        patients_total = coalesce(excluded.patients_total, a.patients_total),
        target_type = coalesce(excluded.target_type, a.target_type),
        parameters = coalesce(excluded.parameters, a.parameters),
        forgotten = coalesce(excluded.forgotten, a.forgotten)";

/// Answers which accesses were to somebody who is erased. A key that was destroyed a moment ago may still be in this process's
/// memory: what the erasure's own transaction wrote down counts, too. It keeps everybody out of the table meanwhile.
const LINK: &str = "
    with link as (select * from unnest($1::uuid[], $2::uuid[]) as link (patient, access)),
    gone as (
        select patient, access from link
        where exists (select from projection.forgotten f where f.subject = patient and f.read_model = $3)
    ),
    linked as (
        insert into access_patients (patient, access) select * from link except select * from gone order by 1, 2
        on conflict do nothing
    )
    select access from gone";

/// What a batch of events says of one access.
#[derive(Default)]
struct Row {
    opened: Option<(Opened, SubjectKey)>,
    completed: Option<Completed>,
}

pub(super) async fn apply(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    let accesses = gather(events)?;
    // In the order in which an erasure goes about it, so that neither waits for the other in a circle.
    let forgotten = link(tx, &accesses, keyring).await?;
    upsert(tx, &accesses, &forgotten, keyring).await
}

/// Says whose data it was. Answers which accesses were to somebody who is erased: they are linked to nobody, and stay so when
/// the log is read again.
async fn link(
    tx: &mut PgConnection,
    rows: &BTreeMap<Uuid, Row>,
    keyring: &Keyring,
) -> Result<BTreeSet<Uuid>, ApplyError> {
    let links = rows.iter().flat_map(|(id, row)| patients(row).into_iter().map(|patient| (patient, *id)));
    let links: Vec<(Uuid, Uuid)> = links.collect();
    let keys = keyring.keys(&links.iter().map(|(patient, _)| *patient).collect::<Vec<_>>()).await;
    if keys.values().any(|key| matches!(key, Err(KeyError::Unavailable))) {
        return Err(sqlx::Error::PoolTimedOut.into());
    }
    let erased = |(patient, _): &(Uuid, Uuid)| matches!(keys.get(patient), Some(Err(KeyError::Erased)));
    let (gone, kept): (Vec<_>, Vec<_>) = links.into_iter().partition(erased);
    let mut forgotten = BTreeSet::from_iter(gone.into_iter().map(|(_, access)| access));
    if !kept.is_empty() {
        let (patients, accesses): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
        let late = sqlx::query_scalar(LINK).bind(patients).bind(accesses).bind(AccessErasures.name());
        let late: Vec<Uuid> = late.fetch_all(tx).await?;
        forgotten.extend(late);
    }
    Ok(forgotten)
}

fn gather(events: &[Event]) -> Result<BTreeMap<Uuid, Row>, ApplyError> {
    let mut accesses = BTreeMap::<Uuid, Row>::new();
    for event in events {
        let AnyEvent::Foreign(_, payload) = &event.fact else { return Err(ApplyError::Event("not-an-access-batch")) };
        // The error of serde may quote the payload, so it is dropped.
        let batch: Batch = serde_json::from_value(payload.clone().into_json())
            .map_err(|_| ApplyError::Event("access-batch-malformed"))?;
        for opened in batch.opened {
            let row = accesses.entry(opened.id).or_default();
            row.opened = Some((opened, event.key.clone()));
        }
        for completed in batch.completed {
            let row = accesses.entry(completed.id).or_default();
            row.completed = Some(completed);
        }
    }
    Ok(accesses)
}

async fn upsert(
    tx: &mut PgConnection,
    rows: &BTreeMap<Uuid, Row>,
    forgotten: &BTreeSet<Uuid>,
    keyring: &Keyring,
) -> Result<(), ApplyError> {
    let targets = rows.iter().map(|(id, row)| other_target(row).filter(|_| !forgotten.contains(id)));
    sqlx::query(UPSERT)
        .bind(rows.keys().copied().collect::<Vec<_>>())
        .bind(opened(rows, |it| it.at))
        .bind(opened(rows, |it| actor_hash(keyring, &it.actor).to_vec()))
        .bind(opened(rows, |it| it.roles.join(",")))
        .bind(opened(rows, |it| rows::column(&it.method).into_owned()))
        .bind(opened(rows, |it| rows::column(&it.route).into_owned()))
        .bind(opened(rows, |it| rows::column(&it.purpose).into_owned()))
        .bind(targets.collect::<Vec<_>>())
        .bind(rows.values().map(|row| row.opened.as_ref().map(|(_, key)| key.subject())).collect::<Vec<_>>())
        .bind(rows.values().map(|row| row.opened.as_ref().map(|it| seal(keyring, it))).collect::<Vec<_>>())
        .bind(completed(rows, |it| it.at))
        .bind(completed(rows, |it| it.outcome.as_str()))
        .bind(completed(rows, |it| it.status.map(i32::from)).into_iter().map(Option::flatten).collect::<Vec<_>>())
        .bind(completed(rows, decision))
        .bind(completed(rows, actions))
        .bind(completed(rows, |it| it.break_glass))
        .bind(completed(rows, |it| i32::try_from(it.patients_total).unwrap_or(i32::MAX)))
        .bind(completed(rows, |it| it.target_type.clone()).into_iter().map(Option::flatten).collect::<Vec<_>>())
        .bind(completed(rows, |it| rows::column(&it.parameters.join(",")).into_owned()))
        .bind(rows.keys().map(|id| forgotten.contains(id).then_some(true)).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

fn opened<T>(rows: &BTreeMap<Uuid, Row>, take: impl Fn(&Opened) -> T) -> Vec<Option<T>> {
    rows.values().map(|row| row.opened.as_ref().map(|(opened, _)| take(opened))).collect()
}

fn completed<'a, T>(rows: &'a BTreeMap<Uuid, Row>, take: impl Fn(&'a Completed) -> T) -> Vec<Option<T>> {
    rows.values().map(|row| row.completed.as_ref().map(&take)).collect()
}

fn seal(keyring: &Keyring, (opened, key): &(Opened, SubjectKey)) -> Vec<u8> {
    let private = Private { actor: opened.actor.clone(), client: opened.client.clone(), address: opened.address };
    let plain = serde_json::to_vec(&private).expect("strings serialize");
    keyring.seal_row(key, &context(opened.id), &plain)
}

/// Whose data it was: opened, asked of the policy, or named by the path of a route about a patient. The last is all that
/// is known of an access that was never completed.
fn patients(row: &Row) -> BTreeSet<Uuid> {
    let named = row.opened.as_ref().and_then(|(opened, _)| opened.target.filter(|_| names_a_patient(&opened.route)));
    let mut patients = BTreeSet::from_iter(named);
    if let Some(completed) = &row.completed
        && !completed.decisions.iter().any(|it| is_about_the_directory(&it.action))
    {
        patients.extend(&completed.patients);
        patients.extend(completed.decisions.iter().filter_map(|it| it.subject));
    }
    patients
}

/// An id in the path that is not a patient's is kept in its own column.
fn other_target(row: &Row) -> Option<Uuid> {
    let (opened, _) = row.opened.as_ref()?;
    opened.target.filter(|_| !names_a_patient(&opened.route))
}

fn names_a_patient(route: &str) -> bool {
    route.starts_with("/v1/patients/{id}")
}

/// The subject of an entry of the directory is the entry, not a patient.
fn is_about_the_directory(action: &str) -> bool {
    matches!(action, "ReadDirectory" | "ManageDirectory")
}

/// The strictest that the policy said; nothing if it was not asked.
fn decision(completed: &Completed) -> &'static str {
    let said = |word: &str| completed.decisions.iter().any(|it| it.decision == word);
    match () {
        () if said("deny") => "deny",
        () if said("hide") => "hide",
        () if said("unrelated") => "unrelated",
        () if said("allow") => "allow",
        () => "none",
    }
}

fn actions(completed: &Completed) -> String {
    let names: BTreeSet<&str> = completed.decisions.iter().map(|it| it.action.as_str()).collect();
    rows::column(&Vec::from_iter(names).join(",")).into_owned()
}
