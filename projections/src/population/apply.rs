//! Events into rows: years and codes.

use std::borrow::Cow;

use chrono::Datelike;
use nexus_domain::AnyEvent;
use nexus_domain::access::ConsentRule;
use nexus_domain::fhir::modifiers::is_understood;
use nexus_domain::fhir::{Resource, Stance, stance};
use nexus_domain::patient::PatientEvent;
use nexus_event_store::Keyring;
use serde_json::Value;
use sqlx::PgConnection;

use super::{condition_of, member_of, pseudonym};
use crate::read_model::{ApplyError, Event};
use crate::rows;

/// The age, in years, that everybody older is given.
const AGE_MAX: i32 = 90;

const UPSERT_MEMBERS: &str = "
    insert into members as t (member, sequence, birth_year, death_year, gender, deceased, withdrawn)
    select * from unnest($1::bytea[], $2::bigint[], $3::integer[], $4::integer[], $5::text[], $6::boolean[],
        $7::boolean[])
    on conflict (member) do update
    set sequence = excluded.sequence, birth_year = excluded.birth_year, death_year = excluded.death_year,
        gender = excluded.gender, deceased = excluded.deceased, withdrawn = excluded.withdrawn
    where excluded.sequence > t.sequence";

const UPSERT_CONDITIONS: &str = "
    insert into member_conditions as t (condition, member, sequence, system, code, status, withdrawn)
    select * from unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::boolean[])
    on conflict (condition) do update
    set member = excluded.member, sequence = excluded.sequence, system = excluded.system, code = excluded.code,
        status = excluded.status, withdrawn = excluded.withdrawn
    where excluded.sequence > t.sequence";

const UPSERT_EXCLUSIONS: &str = "
    insert into member_exclusions as t (consent, member, sequence, excludes)
    select * from unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::boolean[])
    on conflict (consent) do update
    set member = excluded.member, sequence = excluded.sequence, excludes = excluded.excludes
    where excluded.sequence > t.sequence";

pub(super) async fn apply(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    apply_members(tx, events, keyring).await?;
    apply_conditions(tx, events, keyring).await?;
    apply_exclusions(tx, events, keyring).await
}

async fn apply_members(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    let patients = rows::latest(events, |event| matches!(event.fact, AnyEvent::Patient(_)));
    if patients.is_empty() {
        return Ok(());
    }
    let resources = || patients.iter().map(|event| event.fact.resource());
    sqlx::query(UPSERT_MEMBERS)
        .bind(patients.iter().map(|event| member_of(keyring, event.subject)).collect::<Vec<_>>())
        .bind(patients.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(patients.iter().map(|event| birth_year(event)).collect::<Vec<_>>())
        .bind(resources().map(|resource| year(resource.text("deceasedDateTime"))).collect::<Vec<_>>())
        .bind(resources().map(|resource| resource.text("gender").map(rows::column)).collect::<Vec<_>>())
        .bind(resources().map(is_deceased).collect::<Vec<_>>())
        .bind(patients.iter().map(|event| is_withdrawn(event)).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

async fn apply_conditions(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    let conditions = rows::latest(events, |event| matches!(event.fact, AnyEvent::Condition(_)));
    if conditions.is_empty() {
        return Ok(());
    }
    let concepts = || conditions.iter().map(|event| rows::concept_code(event.fact.resource().get("code")));
    // Counts go by an index of these.
    let codes = || concepts().map(|code| code.map(|(system, code)| (indexed(system), indexed(code))));
    let statuses = || conditions.iter().map(|event| rows::status_of(event.fact.resource()));
    // A condition in free text only has no code, and nothing to be counted by.
    // Nor is what is doubted, refuted or not understood a fact about anybody.
    let resources = conditions.iter().map(|event| event.fact.resource());
    let withdrawn = resources.zip(codes()).map(|(resource, code)| code.is_none() || stance(resource) != Stance::Fact);
    sqlx::query(UPSERT_CONDITIONS)
        .bind(conditions.iter().map(|event| condition_of(keyring, event.aggregate_id)).collect::<Vec<_>>())
        .bind(conditions.iter().map(|event| member_of(keyring, event.subject)).collect::<Vec<_>>())
        .bind(conditions.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(codes().map(|code| code.map(|(system, _)| system).unwrap_or_default()).collect::<Vec<_>>())
        .bind(codes().map(|code| code.map(|(_, code)| code).unwrap_or_default()).collect::<Vec<_>>())
        .bind(statuses().map(|status| rows::column(status.unwrap_or("unknown"))).collect::<Vec<_>>())
        .bind(withdrawn.collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

async fn apply_exclusions(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    let consents = rows::latest(events, |event| matches!(event.fact, AnyEvent::Consent(_)));
    if consents.is_empty() {
        return Ok(());
    }
    let excludes =
        |event: &&Event| ConsentRule::of(event.fact.resource()).is_some_and(|consent| consent.excludes_from_research());
    sqlx::query(UPSERT_EXCLUSIONS)
        .bind(consents.iter().map(|event| pseudonym(keyring, "consent", event.aggregate_id)).collect::<Vec<_>>())
        .bind(consents.iter().map(|event| member_of(keyring, event.subject)).collect::<Vec<_>>())
        .bind(consents.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(consents.iter().map(excludes).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

fn indexed(text: Cow<'_, str>) -> String {
    rows::column(&text).into_owned()
}

/// The years of those over 89 identify them (45 CFR 164.514(b)(2)(i)(C)): they all count as born 90 years before they died
/// or were last recorded.
fn birth_year(event: &Event) -> Option<i32> {
    let resource = event.fact.resource();
    let until = year(resource.text("deceasedDateTime")).unwrap_or(event.recorded_at.year());
    year(resource.text("birthDate")).map(|born| born.max(until - AGE_MAX))
}

fn year(text: Option<&str>) -> Option<i32> {
    rows::moment(text).map(|moment| moment.year())
}

fn is_deceased(patient: &Resource) -> bool {
    patient.get("deceasedDateTime").is_some() || patient.get("deceasedBoolean").and_then(Value::as_bool) == Some(true)
}

fn is_withdrawn(event: &Event) -> bool {
    let replaced = |link: &Value| link.get("type").and_then(Value::as_str) == Some("replaced-by");
    matches!(event.fact, AnyEvent::Patient(PatientEvent::EnteredInError { .. }))
        || !is_understood(event.fact.resource())
        || event.fact.resource().items("link").iter().any(replaced)
}
