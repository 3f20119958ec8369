//! What an operator does with a parked subject once the cause is mended.

use std::sync::Arc;

use nexus_event_store::Keyring;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Acquire, PgConnection, PgPool};
use uuid::Uuid;

use super::{Parked, queue, remove_until};
use crate::engine::apply;
use crate::engine::checkpoint::Name;
use crate::engine::fault::{Fault, Reason};
use crate::engine::host::{Fold, Target};
use crate::engine::open;
use crate::read_model::ReadModel;

/// Events that one transaction of a retry replays; longer queues take several.
const RETRY_EVENTS_MAX: i64 = 500;

/// How a retry of a subject went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retried {
    /// Events applied, or dropped because the subject was erased.
    pub applied: u64,
    /// Where the queue stops again, and why; nothing if the subject is no longer parked.
    pub stopped_at: Option<(i64, String)>,
}

/// Why a retry could not be carried out. The queue is as it was before the transaction that failed.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    #[error("the read database did not answer: {0}")]
    Away(String),
}

/// Replays queues. Works beside running consumers, in any process.
pub struct Retry {
    fold: Fold,
    target: Target,
}

impl Retry {
    /// For a version of a read model, which this program's fold has made.
    pub fn new(read_database: &PgConnectOptions, keyring: Keyring, model: Arc<dyn ReadModel>, version: i32) -> Self {
        let name = Name { read_model: model.name(), version };
        Self { fold: Fold { model, keyring }, target: Target::served(name, read_database) }
    }

    /// Replays the queue of a subject in order, until it is empty or an event fails again.
    pub async fn subject(&self, subject: Uuid) -> Result<Retried, RetryError> {
        let mut total = Retried { applied: 0, stopped_at: None };
        loop {
            let step = self.step(subject).await.map_err(|fault| RetryError::Away(fault.code().to_owned()))?;
            total.applied += step.applied;
            if step.stopped_at.is_some() || step.applied == 0 {
                return Ok(Retried { stopped_at: step.stopped_at, ..total });
            }
        }
    }

    async fn step(&self, subject: Uuid) -> Result<Retried, Fault> {
        let database = |error: sqlx::Error| Fault::of_database(&error);
        let name = self.target.name;
        let mut tx = self.target.pool.begin().await.map_err(database)?;
        let Some(partition) = lock_partition_of(&mut tx, name, subject).await.map_err(database)? else {
            return Ok(Retried { applied: 0, stopped_at: None });
        };
        let waiting = queue(&mut tx, name, subject, RETRY_EVENTS_MAX).await.map_err(database)?;
        let mut applied = 0;
        let mut done_until = None;
        let mut stopped_at = None;
        for parked in &waiting {
            match self.replay(&mut tx, parked).await? {
                Ok(()) => {
                    applied += 1;
                    done_until = Some(parked.event.position);
                }
                Err(reason) => {
                    note_failure(&mut tx, name, parked, &reason).await.map_err(database)?;
                    stopped_at = Some((parked.event.position, reason.code));
                    break;
                }
            }
        }
        if let Some(position) = done_until {
            remove_until(&mut tx, name, partition, subject, position).await.map_err(database)?;
        }
        tx.commit().await.map_err(database)?;
        Ok(Retried { applied, stopped_at })
    }

    /// Replays one event in a savepoint. The inner error is the reason for which it stays.
    async fn replay(&self, tx: &mut PgConnection, parked: &Parked) -> Result<Result<(), Reason>, Fault> {
        let database = |error: sqlx::Error| Fault::of_database(&error);
        // What another process has mended since may not be in this process' cache.
        self.fold.keyring.forget(parked.event.header.subject);
        let opened = open::open(&self.fold, &Arc::from([parked.event.clone()])).await?;
        if let Some(unreadable) = opened.unreadable.first() {
            return Ok(Err(Reason::unreadable(unreadable.reason)));
        }
        let mut savepoint = tx.begin().await.map_err(database)?;
        let outcome = match opened.erased.keys().next() {
            Some(subject) => apply::forget(&self.fold, &mut savepoint, *subject).await.map(drop),
            None => apply::apply(&self.fold, &mut savepoint, &opened.events).await,
        };
        match outcome {
            Ok(()) => savepoint.commit().await.map_err(database).map(Ok),
            Err(Fault::Lasting(reason)) => savepoint.rollback().await.map_err(database).map(|()| Err(reason)),
            Err(passing) => Err(passing),
        }
    }
}

/// Gives one parked event up for good: it will never be applied to this read model. The rest of its subject's queue
/// waits for a retry. Answers whether there was such an event.
pub async fn discard(pool: &PgPool, name: Name<'_>, subject: Uuid, position: i64) -> Result<bool, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let Some(partition) = lock_partition_of(&mut tx, name, subject).await? else { return Ok(false) };
    let removed = sqlx::query(
        "delete from projection.parked
         where read_model = $1 and version = $2 and partition = $3 and subject = $4 and position = $5",
    )
    .bind(name.read_model)
    .bind(name.version)
    .bind(partition)
    .bind(subject)
    .bind(position)
    .execute(&mut *tx)
    .await?
    .rows_affected();
    if removed > 0 {
        super::count_by(&mut tx, name, partition, -1).await?;
    }
    tx.commit().await?;
    Ok(removed > 0)
}

/// Locks the checkpoint of the partition that a parked subject lives in.
async fn lock_partition_of(tx: &mut PgConnection, name: Name<'_>, subject: Uuid) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar(
        "select partition from projection.checkpoints
         where read_model = $1 and version = $2 and partition =
             (select partition from projection.parked
              where read_model = $1 and version = $2 and subject = $3 limit 1)
         for update",
    )
    .bind(name.read_model)
    .bind(name.version)
    .bind(subject)
    .fetch_optional(tx)
    .await
}

async fn note_failure(
    tx: &mut PgConnection,
    name: Name<'_>,
    parked: &Parked,
    reason: &Reason,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update projection.parked set reason = $5, causes = $6, attempts = attempts + 1
         where read_model = $1 and version = $2 and partition = $3 and position = $4",
    )
    .bind(name.read_model)
    .bind(name.version)
    .bind(parked.event.partition)
    .bind(parked.event.position)
    .bind(&reason.code)
    .bind(&reason.causes)
    .execute(tx)
    .await
    .map(drop)
}
