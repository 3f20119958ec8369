//! Events into rows: how each alert stands, and where its stay is.

use nexus_domain::AnyEvent;
use nexus_domain::alert::{risk_of, score_of, undecided_of};
use nexus_domain::early_warning::{Parameter, Risk};
use nexus_domain::fhir::Resource;
use nexus_event_store::Keyring;
use sqlx::PgConnection;
use uuid::Uuid;

use super::NAME;
use crate::read_model::{ApplyError, Event};
use crate::{people, rows};

const UPSERT_ALERTS: &str = "
    insert into alerts as t (alert, patient, encounter, sequence, risk, score, undecided, raised_at, changed_at)
    select alert, patient, encounter, sequence, risk, score, string_to_array(undecided, ' '), raised_at, changed_at
    from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::smallint[], $7::text[],
        $8::timestamptz[], $9::timestamptz[])
        as new (alert, patient, encounter, sequence, risk, score, undecided, raised_at, changed_at)
    on conflict (alert) do update
    set patient = excluded.patient, encounter = excluded.encounter, sequence = excluded.sequence, risk = excluded.risk,
        score = excluded.score, undecided = excluded.undecided, raised_at = excluded.raised_at, changed_at = excluded.changed_at
    where excluded.sequence > t.sequence";

const UPSERT_STAYS: &str = "
    insert into stays as t (encounter, patient, sequence, location)
    select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[])
    on conflict (encounter) do update
    set patient = excluded.patient, sequence = excluded.sequence, location = excluded.location
    where excluded.sequence > t.sequence";

pub(super) async fn apply(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    people::apply(tx, events, keyring, NAME).await?;
    apply_stays(tx, events).await?;
    apply_alerts(tx, events).await
}

async fn apply_stays(tx: &mut PgConnection, events: &[Event]) -> Result<(), ApplyError> {
    let stays = rows::latest(events, |event| matches!(event.fact, AnyEvent::Encounter(_)));
    if stays.is_empty() {
        return Ok(());
    }
    sqlx::query(UPSERT_STAYS)
        .bind(stays.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
        .bind(stays.iter().map(|event| event.subject).collect::<Vec<_>>())
        .bind(stays.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(
            stays
                .iter()
                .map(|event| rows::place(event.fact.resource()).map(|place| place.location))
                .collect::<Vec<_>>(),
        )
        .execute(tx)
        .await?;
    Ok(())
}

async fn apply_alerts(tx: &mut PgConnection, events: &[Event]) -> Result<(), ApplyError> {
    let alerts = rows::latest(events, |event| matches!(event.fact, AnyEvent::Alert(_)));
    if alerts.is_empty() {
        return Ok(());
    }
    let flags = || alerts.iter().map(|event| event.fact.resource());
    sqlx::query(UPSERT_ALERTS)
        .bind(alerts.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
        .bind(alerts.iter().map(|event| event.subject).collect::<Vec<_>>())
        .bind(flags().map(encounter_of).collect::<Vec<_>>())
        .bind(alerts.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(flags().map(|flag| risk_of(flag).map(Risk::as_str)).collect::<Vec<_>>())
        .bind(flags().map(|flag| score_of(flag).map(i16::from)).collect::<Vec<_>>())
        .bind(flags().map(undecided).collect::<Vec<_>>())
        .bind(flags().map(|flag| rows::moment(flag.text_at("/period/start"))).collect::<Vec<_>>())
        .bind(alerts.iter().map(|event| event.recorded_at).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

/// Codes of ours, with a space between two: arrays of arrays have to be of one length.
fn undecided(flag: &Resource) -> String {
    undecided_of(flag).into_iter().map(Parameter::as_str).collect::<Vec<_>>().join(" ")
}

/// The aggregate takes no alert without one.
fn encounter_of(flag: &Resource) -> Uuid {
    rows::referenced(flag.text_at("/encounter/reference"), "Encounter").unwrap_or_default()
}
