//! The table of orders, as a reactor's fold writes it.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::read_model::Event;

/// The DDL of the table; a reactor puts it before its own.
#[macro_export]
macro_rules! orders_sql {
    ($own:literal) => {
        concat!(include_str!("../reactor/orders.sql"), include_str!($own))
    };
}

/// A command of the write door that is to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The `Idempotency-Key`: made from the reactor's name, the cause and the target, never from its version.
    pub key: String,
    /// What it is about; of one target, what is caused first is sent first.
    pub target: Uuid,
    /// Nothing if it is due at once, whatever the clock of the process says that recorded its cause: one that is ahead must not
    /// hold an order back, nor let a later one overtake it.
    pub due_at: Option<DateTime<Utc>>,
    pub path: String,
    pub body: Value,
}

const INSERT: &str = "
    insert into orders (key, subject, target, partition, position, due_at, path, body, try_at)
    select key, subject, target, partition, position, due_at, path, body, due_at
    from unnest($1::text[], $2::uuid[], $3::uuid[], $4::integer[], $5::bigint[], $6::timestamptz[], $7::timestamptz[],
        $8::text[], $9::jsonb[])
        as new (key, subject, target, partition, position, recorded_at, given, path, body)
    cross join lateral (select coalesce(given, least(recorded_at, now())) as due_at) as due
    on conflict do nothing";

/// Writes orders down, each with the event that caused it. One whose key is known stays as it is.
pub async fn place(tx: &mut PgConnection, orders: &[(&Event, Order)]) -> Result<(), sqlx::Error> {
    if orders.is_empty() {
        return Ok(());
    }
    sqlx::query(INSERT)
        .bind(orders.iter().map(|(_, order)| order.key.as_str()).collect::<Vec<_>>())
        .bind(orders.iter().map(|(cause, _)| cause.subject).collect::<Vec<_>>())
        .bind(orders.iter().map(|(_, order)| order.target).collect::<Vec<_>>())
        .bind(orders.iter().map(|(cause, _)| cause.partition).collect::<Vec<_>>())
        .bind(orders.iter().map(|(cause, _)| cause.position).collect::<Vec<_>>())
        .bind(orders.iter().map(|(cause, _)| cause.recorded_at).collect::<Vec<_>>())
        .bind(orders.iter().map(|(_, order)| order.due_at).collect::<Vec<_>>())
        .bind(orders.iter().map(|(_, order)| order.path.as_str()).collect::<Vec<_>>())
        .bind(orders.iter().map(|(_, order)| Json(&order.body)).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

/// Takes back what is still to be sent about these targets.
pub async fn withdraw(tx: &mut PgConnection, targets: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query("delete from orders where state = 'due' and target = any($1)").bind(targets).execute(tx).await?;
    Ok(())
}

/// Drops every order about an erased subject; answers how many those were.
pub async fn forget(tx: &mut PgConnection, subject: Uuid) -> Result<u64, sqlx::Error> {
    Ok(sqlx::query("delete from orders where subject = $1").bind(subject).execute(tx).await?.rows_affected())
}
