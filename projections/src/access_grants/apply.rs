//! Events into rows: what each encounter, appointment and consent says about access as it stands now.

use nexus_domain::AnyEvent;
use nexus_domain::access::{Care, ConsentRule, Emergency};
use nexus_event_store::Keyring;
use sqlx::PgConnection;
use uuid::Uuid;

use super::emergencies::Private;
use super::{consent_context, emergency_context};
use crate::read_model::{ApplyError, Event};
use crate::rows;

/// Arrays of arrays must be rectangles in Postgres, so ids travel as text lists.
const UPSERT_CARE: &str = "
    insert into care as t (source, patient, sequence, practitioners, organizations, counts_from, counts_until)
    select source, patient, sequence, practitioners::uuid[], organizations::uuid[],
        case when counts then coalesce(counts_from, '-infinity') else '-infinity' end,
        case when counts then coalesce(counts_until, 'infinity') else '-infinity' end
    from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::boolean[], $7::timestamptz[],
        $8::timestamptz[])
        as new (source, patient, sequence, practitioners, organizations, counts, counts_from, counts_until)
    on conflict (source) do update
    set patient = excluded.patient, sequence = excluded.sequence, practitioners = excluded.practitioners,
        organizations = excluded.organizations, counts_from = excluded.counts_from,
        counts_until = excluded.counts_until
    where excluded.sequence > t.sequence";

const UPSERT_CONSENTS: &str = "
    insert into consents as t (consent, patient, sequence, active, sealed)
    select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::boolean[], $5::bytea[])
    on conflict (consent) do update
    set patient = excluded.patient, sequence = excluded.sequence, active = excluded.active, sealed = excluded.sealed
    where excluded.sequence > t.sequence";

const UPSERT_EMERGENCIES: &str = "
    insert into emergencies as t (emergency, patient, sequence, practitioner, opened_at, ends_at, reviewed, sealed)
    select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[], $5::timestamptz[], $6::timestamptz[],
        $7::boolean[], $8::bytea[])
    on conflict (emergency) do update
    set patient = excluded.patient, sequence = excluded.sequence, practitioner = excluded.practitioner,
        opened_at = excluded.opened_at, ends_at = excluded.ends_at, reviewed = excluded.reviewed,
        sealed = excluded.sealed
    where excluded.sequence > t.sequence";

pub(super) async fn apply(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    apply_care(tx, events).await?;
    apply_consents(tx, events, keyring).await?;
    apply_emergencies(tx, events, keyring).await
}

async fn apply_care(tx: &mut PgConnection, events: &[Event]) -> Result<(), ApplyError> {
    let tells = |event: &Event| matches!(event.fact, AnyEvent::Encounter(_) | AnyEvent::Appointment(_));
    let events = rows::latest(events, tells);
    if events.is_empty() {
        return Ok(());
    }
    let care: Vec<_> = events.iter().map(|event| Care::of(event.fact.resource())).collect();
    let ids = |ids: fn(&Care) -> &[Uuid]| care.iter().map(|care| list(care.as_ref().map(ids))).collect::<Vec<_>>();
    sqlx::query(UPSERT_CARE)
        .bind(events.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.subject).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(ids(|care| &care.practitioners))
        .bind(ids(|care| &care.organizations))
        .bind(care.iter().map(Option::is_some).collect::<Vec<_>>())
        .bind(care.iter().map(|care| care.as_ref()?.from).collect::<Vec<_>>())
        .bind(care.iter().map(|care| care.as_ref()?.until).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

async fn apply_consents(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    let events = rows::latest(events, |event| matches!(event.fact, AnyEvent::Consent(_)));
    if events.is_empty() {
        return Ok(());
    }
    let rules: Vec<_> = events.iter().map(|event| ConsentRule::of(event.fact.resource())).collect();
    let sealed = events.iter().zip(&rules).map(|(event, rule)| {
        let context = consent_context(event.aggregate_id);
        rows::seal(keyring, event, &context, rule)
    });
    sqlx::query(UPSERT_CONSENTS)
        .bind(events.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.subject).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(rules.iter().map(Option::is_some).collect::<Vec<_>>())
        .bind(sealed.collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

async fn apply_emergencies(tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
    // Not any Task: one that was filed opens nothing.
    let events = rows::latest(events, |event| matches!(event.fact, AnyEvent::EmergencyAccess(_)));
    let cases = events.into_iter().filter_map(|event| Some((event, Emergency::of(event.fact.resource())?)));
    let cases: Vec<_> = cases.collect();
    if cases.is_empty() {
        return Ok(());
    }
    sqlx::query(UPSERT_EMERGENCIES)
        .bind(cases.iter().map(|(event, _)| event.aggregate_id).collect::<Vec<_>>())
        .bind(cases.iter().map(|(event, _)| event.subject).collect::<Vec<_>>())
        .bind(cases.iter().map(|(event, _)| event.sequence).collect::<Vec<_>>())
        .bind(cases.iter().map(|(_, case)| case.practitioner).collect::<Vec<_>>())
        .bind(cases.iter().map(|(_, case)| case.from).collect::<Vec<_>>())
        .bind(cases.iter().map(|(_, case)| case.until).collect::<Vec<_>>())
        .bind(cases.iter().map(|(_, case)| case.reviewed).collect::<Vec<_>>())
        .bind(cases.iter().map(|(event, _)| seal_emergency(event, keyring)).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

fn seal_emergency(event: &Event, keyring: &Keyring) -> Vec<u8> {
    let text = |pointer| event.fact.resource().text_at(pointer).map(str::to_owned);
    let private = Private {
        account: text("/requester/identifier/value"),
        reason: text("/reasonCode/text"),
        finding: text("/note/0/text"),
    };
    rows::seal(keyring, event, &emergency_context(event.aggregate_id), &private)
}

/// Ids as Postgres writes an array.
fn list(ids: Option<&[Uuid]>) -> String {
    let ids: Vec<_> = ids.unwrap_or_default().iter().map(Uuid::to_string).collect();
    format!("{{{}}}", ids.join(","))
}
