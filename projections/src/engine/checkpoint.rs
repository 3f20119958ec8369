//! How far each partition of each read model is applied, and who may move it on.

use nexus_event_store::sabotage::{Safeguard, is_off};
use sqlx::{PgConnection, PgPool, Row};

/// What the owner of a partition knows about its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// Rises with every owner; an update under an older one changes zero rows.
    pub epoch: i64,
    /// The last position applied.
    pub position: i64,
    /// The record to recognise the topic by, if any record has been applied.
    pub anchor: Option<Anchor>,
}

/// The newest record that moved the checkpoint: where it is in Kafka and which position it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub offset: i64,
    pub position: i64,
}

/// A version of a read model, as the tables name it.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    pub read_model: &'a str,
    pub version: i32,
}

/// What a version is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Readers see it: consumers keep it level.
    Serve,
    /// It is filled beside the one that is served, or is kept.
    Fill,
}

/// Takes partitions over, whoever had them: raises the epoch and reads where to go on. Partitions of a version that has another
/// purpose by now are left out, so the answer may be shorter than the question.
pub async fn take(
    pool: &PgPool,
    name: Name<'_>,
    purpose: Purpose,
    partitions: &[i32],
    owner: &str,
) -> Result<Vec<(i32, Ownership)>, sqlx::Error> {
    let rows = sqlx::query(
        "insert into projection.checkpoints as mine (read_model, version, partition, epoch, owner, served)
         select $1, $2, partition, 1, $4, $5 from unnest($3::integer[]) as given (partition) order by partition
         on conflict (read_model, version, partition)
         do update set epoch = mine.epoch + 1, owner = excluded.owner, updated_at = now() where mine.served = $5
         returning partition, position, kafka_offset, kafka_position, epoch",
    )
    .bind(name.read_model)
    .bind(name.version)
    .bind(partitions)
    .bind(owner)
    .bind(purpose == Purpose::Serve)
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("partition")?, ownership(row)?))).collect()
}

/// The checkpoint as it stands, whoever owns it.
pub async fn read(pool: &PgPool, name: Name<'_>, partition: i32) -> Result<Option<Ownership>, sqlx::Error> {
    let row = sqlx::query(
        "select position, kafka_offset, kafka_position, epoch from projection.checkpoints
         where read_model = $1 and version = $2 and partition = $3",
    )
    .bind(name.read_model)
    .bind(name.version)
    .bind(partition)
    .fetch_optional(pool)
    .await?;
    row.as_ref().map(ownership).transpose()
}

/// Moves a checkpoint on, and with that locks it until the transaction ends, if `tx` is in one. Answers how many events of
/// the partition are parked, or nothing if the partition is no longer the caller's or no longer where the caller left it.
pub async fn advance(
    tx: &mut PgConnection,
    name: Name<'_>,
    partition: i32,
    from: &Ownership,
    to: &Ownership,
) -> Result<Option<i64>, sqlx::Error> {
    let fence = if is_off(Safeguard::EpochFence) { "$4 = $4" } else { "epoch = $4" };
    sqlx::query_scalar(&format!(
        "update projection.checkpoints
         set position = $6, kafka_offset = $7, kafka_position = $8, updated_at = now()
         where read_model = $1 and version = $2 and partition = $3 and {fence} and position = $5
         returning parked"
    ))
    .bind(name.read_model)
    .bind(name.version)
    .bind(partition)
    .bind(from.epoch)
    .bind(from.position)
    .bind(to.position)
    // Kafka's convention: a committed offset names the record to read next.
    .bind(to.anchor.map(|anchor| anchor.offset + 1))
    .bind(to.anchor.map(|anchor| anchor.position))
    .fetch_optional(tx)
    .await
}

fn ownership(row: &sqlx::postgres::PgRow) -> Result<Ownership, sqlx::Error> {
    let offset: Option<i64> = row.try_get("kafka_offset")?;
    let position: Option<i64> = row.try_get("kafka_position")?;
    Ok(Ownership {
        epoch: row.try_get("epoch")?,
        position: row.try_get("position")?,
        anchor: offset.zip(position).map(|(next, position)| Anchor { offset: next - 1, position }),
    })
}
