//! Appointment follow-up: a reactor that orders a reminder before each booked appointment, and marks those to which nobody
//! came once their time is over.
//!
//! Both are timers: orders that are due later. Whatever happens to the appointment takes back what is still to be sent and orders
//! anew what follows from how it stands now. What would have been due before the event was recorded is not ordered: of history
//! nobody is reminded, and an appointment that is booked for tomorrow morning needs no reminder of its own.

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use nexus_domain::AnyEvent;
use nexus_domain::fhir::modifiers::is_understood;
use nexus_event_store::Keyring;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::reactor::orders::{self, Order};
use crate::read_model::{ApplyError, Event, ReadModel};
use crate::rows;

/// The reactor's name.
pub const NAME: &str = "appointment_follow_up";

/// How long before an appointment its reminder is due.
pub const REMIND_BEFORE: TimeDelta = TimeDelta::hours(24);

/// Orders reminders, and follows up on who did not come.
pub struct AppointmentFollowUp;

#[async_trait]
impl ReadModel for AppointmentFollowUp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i32 {
        2
    }

    fn schema_sql(&self) -> &'static str {
        crate::orders_sql!("../appointment_follow_up/schema.sql")
    }

    fn gives_orders(&self) -> bool {
        true
    }

    fn wants(&self, aggregate_type: &str) -> bool {
        aggregate_type == "Appointment"
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], _: &Keyring) -> Result<(), ApplyError> {
        let appointments = rows::latest(events, |event| matches!(event.fact, AnyEvent::Appointment(_)));
        if appointments.is_empty() {
            return Ok(());
        }
        let newer = note(tx, &appointments).await?;
        let newer: Vec<&Event> = appointments.into_iter().filter(|event| newer.contains(&event.aggregate_id)).collect();
        let targets: Vec<Uuid> = newer.iter().map(|event| event.aggregate_id).collect();
        orders::withdraw(tx, &targets).await?;
        let orders: Vec<_> =
            newer.into_iter().flat_map(|event| wanted(event).map(move |order| (event, order))).collect();
        Ok(orders::place(tx, &orders).await?)
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        let delete = sqlx::query("delete from appointments where patient = $1").bind(subject);
        let rows = delete.execute(&mut *tx).await?.rows_affected();
        Ok(rows + orders::forget(tx, subject).await?)
    }
}

/// Tells which of them are newer than what was known.
async fn note(tx: &mut PgConnection, events: &[&Event]) -> Result<HashSet<Uuid>, sqlx::Error> {
    let newer: Vec<Uuid> = sqlx::query_scalar(
        "insert into appointments as t (appointment, patient, sequence)
         select * from unnest($1::uuid[], $2::uuid[], $3::bigint[])
         on conflict (appointment) do update set patient = excluded.patient, sequence = excluded.sequence
         where excluded.sequence > t.sequence
         returning appointment",
    )
    .bind(events.iter().map(|event| event.aggregate_id).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.subject).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.sequence).collect::<Vec<_>>())
    .fetch_all(tx)
    .await?;
    Ok(newer.into_iter().collect())
}

/// What follows from how an appointment stands.
fn wanted(event: &Event) -> impl Iterator<Item = Order> {
    let resource = event.fact.resource();
    let is_booked = resource.text("status") == Some("booked") && is_understood(resource);
    let time = rows::moment(resource.text("start")).zip(rows::moment(resource.text("end"))).filter(|_| is_booked);
    let orders = time.map(|(start, end)| {
        [
            order(event, "reminder-due", start, start - REMIND_BEFORE),
            // A time that was moved to end later or earlier is another one not to be missed.
            order(event, "no-show", end, end),
        ]
    });
    orders.into_iter().flatten().filter(|order| order.due_at > Some(event.recorded_at))
}

/// The key names the time that it is about: an appointment that is moved is reminded of anew.
fn order(event: &Event, command: &str, about: DateTime<Utc>, due_at: DateTime<Utc>) -> Order {
    let appointment = event.aggregate_id;
    Order {
        key: format!("{NAME}/{appointment}/{command}/{}", about.timestamp_micros()),
        target: appointment,
        due_at: Some(due_at),
        path: format!("/v1/appointments/{appointment}/{command}"),
        body: json!({}),
    }
}
