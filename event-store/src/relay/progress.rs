//! What is next to publish, and how far publishing has come: one statement each for all partitions.

use std::collections::BTreeMap;

use sqlx::PgPool;
use uuid::Uuid;

use super::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX};
use crate::channel::SUFFIX;
use crate::error::Error;
use crate::event::SealedEvent;
use crate::load::{COLUMNS, read_event};
use crate::published::PUBLISHED_CHANNEL;
use crate::sabotage::{Safeguard, is_off};

/// The events that follow these positions, by partition and in order. A partition without any has no entry.
pub(super) async fn read_next(pool: &PgPool, after: &[(i32, i64)]) -> Result<BTreeMap<i32, Vec<SealedEvent>>, Error> {
    if after.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (partitions, positions): (Vec<_>, Vec<_>) = after.iter().copied().unzip();
    let rows = sqlx::query(&format!(
        "select {COLUMNS}
         from unnest($1::int[], $2::bigint[]) as asked (of_partition, after)
         cross join lateral (
             select e.*, sum(octet_length(e.sealed)) over (order by e.position) - octet_length(e.sealed) as bytes_before
             from events e where e.partition = of_partition and e.position > after
             order by e.position limit $3) as next
         where bytes_before < $4
         order by partition, position",
    ))
    .bind(partitions)
    .bind(positions)
    .bind(BATCH_EVENTS_MAX)
    .bind(BATCH_BYTES_MAX)
    .fetch_all(pool)
    .await?;
    let mut batches = BTreeMap::<_, Vec<_>>::new();
    for row in &rows {
        let event = read_event(row)?;
        batches.entry(event.partition).or_default().push(event);
    }
    Ok(batches)
}

/// Stores how far (partition, epoch, position) publishing has come, and wakes those who wait for it. Returns the
/// partitions whose lease is still this owner's under that epoch; the others' rows stay as they are.
pub(super) async fn advance(pool: &PgPool, owner: Uuid, advanced: &[(i32, i64, i64)]) -> Result<Vec<i32>, sqlx::Error> {
    if advanced.is_empty() {
        return Ok(Vec::new());
    }
    let partitions: Vec<_> = advanced.iter().map(|(partition, _, _)| *partition).collect();
    let epochs: Vec<_> = advanced.iter().map(|(_, epoch, _)| *epoch).collect();
    let positions: Vec<_> = advanced.iter().map(|(_, _, position)| *position).collect();
    let fence = if is_off(Safeguard::EpochFence) { "$1 = $1" } else { "l.owner = $1 and l.epoch = done.epoch" };
    let rows: Vec<(i32, String)> = sqlx::query_as(&format!(
        "with stored as (
             update relay_progress p set position = done.position
             from unnest($2::int[], $3::bigint[], $4::bigint[]) as done (partition, epoch, position)
             join relay_leases l on l.partition = done.partition and {fence}
             where p.partition = done.partition
             returning p.partition)
         select partition, pg_notify($5 || {SUFFIX}, '')::text from stored",
    ))
    .bind(owner)
    .bind(partitions)
    .bind(epochs)
    .bind(positions)
    .bind(PUBLISHED_CHANNEL)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(partition, _)| partition).collect())
}
