//! Events into rows: where each encounter is now.

use nexus_domain::AnyEvent;
use nexus_event_store::Keyring;
use sqlx::PgConnection;

use super::query::Private;
use super::{NAME, context, place_context};
use crate::read_model::{ApplyError, Event};
use crate::{people, rows};

const UPSERT: &str = "
    insert into encounters as t (encounter, patient, sequence, status, present, class, location, located_at, started_at,
        sealed)
    select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::boolean[], $6::text[], $7::uuid[],
        $8::timestamptz[], $9::timestamptz[], $10::bytea[])
    on conflict (encounter) do update
    set patient = excluded.patient, sequence = excluded.sequence, status = excluded.status, present = excluded.present,
        class = excluded.class, location = excluded.location, located_at = excluded.located_at,
        started_at = excluded.started_at, sealed = excluded.sealed
    where excluded.sequence > t.sequence";

const UPSERT_PLACES: &str = "
    insert into places as t (location, sequence, sealed) select * from unnest($1::uuid[], $2::bigint[], $3::bytea[])
    on conflict (location) do update set sequence = excluded.sequence, sealed = excluded.sealed
    where excluded.sequence > t.sequence";

pub(super) async fn apply(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    people::apply(tx, events, keyring, NAME).await?;
    apply_places(tx, events, keyring).await?;
    let encounters = rows::latest(events, |event| matches!(event.fact, AnyEvent::Encounter(_)));
    if encounters.is_empty() {
        return Ok(());
    }
    let resources = || encounters.iter().map(|event| event.fact.resource());
    let places: Vec<_> = resources().map(rows::place).collect();
    sqlx::query(UPSERT)
        .bind(encounters.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
        .bind(encounters.iter().map(|event| event.subject).collect::<Vec<_>>())
        .bind(encounters.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(
            resources().map(|resource| rows::column(resource.text("status").unwrap_or("unknown"))).collect::<Vec<_>>(),
        )
        .bind(resources().map(rows::is_present).collect::<Vec<_>>())
        .bind(resources().map(|resource| resource.text_at("/class/code").map(rows::column)).collect::<Vec<_>>())
        .bind(places.iter().map(|place| place.map(|place| place.location)).collect::<Vec<_>>())
        .bind(places.iter().map(|place| place.and_then(|place| place.since)).collect::<Vec<_>>())
        .bind(resources().map(|resource| rows::moment(resource.text_at("/period/start"))).collect::<Vec<_>>())
        .bind(encounters.iter().map(|event| seal(event, keyring)).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

async fn apply_places(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    let is_place = |event: &Event| {
        matches!(event.fact, AnyEvent::DirectoryEntry(_)) && event.fact.resource().resource_type() == "Location"
    };
    let places = rows::latest(events, is_place);
    if places.is_empty() {
        return Ok(());
    }
    let seal = |event: &&Event| {
        let name = event.fact.resource().text("name");
        rows::seal(keyring, event, &place_context(event.aggregate_id), &name)
    };
    sqlx::query(UPSERT_PLACES)
        .bind(places.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
        .bind(places.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(places.iter().map(seal).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

fn seal(event: &Event, keyring: &Keyring) -> Vec<u8> {
    let resource = event.fact.resource();
    let reason = rows::concept_text(resource.get("reasonCode")).or_else(|| rows::concept_text(resource.get("type")));
    let private = Private { reason: reason.map(str::to_owned) };
    rows::seal(keyring, event, &context(event.aggregate_id), &private)
}
