//! The transaction: checkpoint first, then rows, then commit.
//!
//! Moving the checkpoint first takes its row lock, so that everything after it (which subjects are parked, the rows)
//! is read and written by one owner at a time, and an owner of yesterday learns it before it has written anything.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use nexus_event_store::SealedEvent;
use nexus_event_store::sabotage::{Safeguard, is_off};
use sqlx::{Acquire, Executor, PgConnection};
use uuid::Uuid;

use super::checkpoint::{self, Name, Ownership, Purpose};
use super::fault::{Fault, Reason};
use super::forgotten;
use super::host::{Fold, Target};
use super::open::Opened;
use super::parked::{self, BEHIND, Queues, Search};
use super::versions;
use crate::read_model::{ApplyError, Event, schema_of};

/// A batch that is ready for its transaction.
pub(crate) struct Prepared<'a> {
    pub(crate) fold: &'a Fold,
    pub(crate) target: &'a Target,
    pub(crate) partition: i32,
    pub(crate) from: Ownership,
    pub(crate) to: Ownership,
    /// All events of the batch; their positions follow each other.
    pub(crate) sealed: &'a [SealedEvent],
    pub(crate) opened: &'a Opened,
    /// How often this batch has been tried, for the record of what gets parked.
    pub(crate) attempts: u32,
}

/// Why a transaction did not commit.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The checkpoint is not where this owner left it.
    Moved,
    Fault(Fault),
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        Self::Fault(Fault::of_database(&error))
    }
}

/// How many events of the partition are parked after the commit.
type ParkedCount = i64;

/// Applies the whole batch at once. Any event at fault fails it.
pub(crate) async fn together(batch: &Prepared<'_>) -> Result<ParkedCount, Refused> {
    if let Some(unreadable) = batch.opened.unreadable.first() {
        return Err(Refused::Fault(Fault::Lasting(Reason::unreadable(unreadable.reason))));
    }
    if batch.opened.is_empty() {
        return pass_over(batch).await;
    }
    let mut tx = batch.target.pool.begin().await?;
    let mut parking = Parking::begin(batch, &mut tx).await?;
    if is_off(Safeguard::OneTransaction) {
        tx.commit().await?;
        tx = batch.target.pool.begin().await?;
    }
    if parking.queues.is_empty() {
        apply(batch.fold, &mut tx, &batch.opened.events).await.map_err(Refused::Fault)?;
    } else {
        let free = parking.queues.hold_back(&batch.opened.events);
        apply(batch.fold, &mut tx, &free).await.map_err(Refused::Fault)?;
    }
    let parked = parking.finish(&mut tx).await?;
    tx.commit().await?;
    Ok(parked)
}

/// Moves the checkpoint over events that the read model has no use for: most batches of most read models are such, and one
/// statement is a third of the work of a transaction with nothing else in it.
async fn pass_over(batch: &Prepared<'_>) -> Result<ParkedCount, Refused> {
    let mut connection = batch.target.pool.acquire().await?;
    let moved =
        checkpoint::advance(&mut connection, batch.target.name, batch.partition, &batch.from, &batch.to).await?;
    moved.ok_or(Refused::Moved)
}

/// Applies the batch in halves of halves until each event at fault stands alone, and parks those.
pub(crate) async fn apart(batch: &Prepared<'_>) -> Result<ParkedCount, Refused> {
    let mut tx = batch.target.pool.begin().await?;
    let mut parking = Parking::begin(batch, &mut tx).await?;
    let mut search = Search::new(&batch.opened.events, &batch.opened.unreadable);
    while let Some(free) = search.next(&mut parking.queues) {
        if let Err(reason) = apply_in_savepoint(batch.fold, &mut tx, &free).await? {
            search.failed(&mut parking.queues, &free, reason);
        }
    }
    let parked = parking.finish(&mut tx).await?;
    tx.commit().await?;
    Ok(parked)
}

/// What is parked, and what this batch adds to it.
struct Parking<'a> {
    name: Name<'a>,
    batch: &'a Prepared<'a>,
    queues: Queues,
    count: ParkedCount,
}

impl<'a> Parking<'a> {
    async fn begin(batch: &'a Prepared<'a>, tx: &mut PgConnection) -> Result<Self, Refused> {
        let name = batch.target.name;
        let moved = checkpoint::advance(tx, name, batch.partition, &batch.from, &batch.to).await?;
        let mut count = moved.ok_or(Refused::Moved)?;
        let kept = kept_beside(batch, tx).await?;
        for (subject, position) in &batch.opened.erased {
            let rows = forget(batch.fold, tx, *subject).await.map_err(Refused::Fault)?;
            let parked = match count {
                0 => 0,
                _ => parked::remove_subject(tx, name, batch.partition, *subject).await?,
            };
            count -= parked;
            forgotten::note(tx, name, (batch.partition, *position), *subject, (rows, parked)).await?;
            forget_in_kept(batch, tx, &kept, (*subject, *position)).await?;
        }
        let subjects = match count {
            0 => Default::default(),
            _ => parked::subjects(tx, name, batch.partition).await?,
        };
        Ok(Self { name, batch, queues: Queues::new(subjects), count })
    }

    async fn finish(self, tx: &mut PgConnection) -> Result<ParkedCount, sqlx::Error> {
        if self.queues.rows().is_empty() {
            return Ok(self.count);
        }
        let first = self.batch.sealed.first().map_or(0, |event| event.position);
        let rows = self.queues.rows().iter().filter_map(|(position, reason)| {
            let index = usize::try_from(position - first).ok()?;
            Some(parked::Row { event: self.batch.sealed.get(index)?, reason, attempts: self.batch.attempts })
        });
        let rows: Vec<_> = rows.collect();
        for row in rows.iter().filter(|row| row.reason.code != BEHIND) {
            tracing::error!(
                read_model = self.name.read_model,
                partition = self.batch.partition,
                position = row.event.position,
                subject = %row.event.header.subject,
                reason = row.reason.code,
                "an event is parked; later events of its subject wait behind it"
            );
        }
        parked::insert(tx, self.name, self.batch.partition, &rows).await
    }
}

/// Applies events inside a savepoint. The inner error is the reason of a fault that is the events' own.
async fn apply_in_savepoint(
    fold: &Fold,
    tx: &mut PgConnection,
    events: &[Event],
) -> Result<Result<(), Reason>, Refused> {
    let mut savepoint = tx.begin().await?;
    match apply(fold, &mut savepoint, events).await {
        Ok(()) => {
            savepoint.commit().await?;
            Ok(Ok(()))
        }
        Err(Fault::Lasting(reason)) => {
            savepoint.rollback().await?;
            Ok(Err(reason))
        }
        Err(passing) => Err(Refused::Fault(passing)),
    }
}

/// The versions in which a batch's erased subjects have to be forgotten, too. Whoever is erased while a version is filled is
/// met there, in the log.
async fn kept_beside(batch: &Prepared<'_>, tx: &mut PgConnection) -> Result<Vec<Name<'static>>, sqlx::Error> {
    if batch.opened.erased.is_empty() || batch.target.purpose != Purpose::Serve {
        return Ok(Vec::new());
    }
    versions::kept(tx, batch.fold.model.as_ref()).await
}

/// Versions that are kept stay as they are, but for who is erased: rows must not outlive their patient anywhere.
async fn forget_in_kept(
    batch: &Prepared<'_>,
    tx: &mut PgConnection,
    kept: &[Name<'_>],
    (subject, position): (Uuid, Option<i64>),
) -> Result<(), Refused> {
    for name in kept.iter().copied() {
        turn_to(tx, name).await?;
        let rows = forget(batch.fold, tx, subject).await.map_err(Refused::Fault)?;
        let parked = parked::remove_subject(tx, name, batch.partition, subject).await?;
        forgotten::note(tx, name, (batch.partition, position), subject, (rows, parked)).await?;
        turn_to(tx, batch.target.name).await?;
    }
    Ok(())
}

/// Lets the rest of the transaction see the tables of a version.
pub(crate) async fn turn_to(tx: &mut PgConnection, name: Name<'_>) -> Result<(), sqlx::Error> {
    let schema = schema_of(name.read_model, name.version);
    tx.execute(format!("set local search_path = {schema}, public").as_str()).await.map(drop)
}

/// Calls the read model. A panic in it is a fault of the event like any other.
pub(crate) async fn apply(fold: &Fold, tx: &mut PgConnection, events: &[Event]) -> Result<(), Fault> {
    if events.is_empty() {
        return Ok(());
    }
    judge(AssertUnwindSafe(fold.model.apply(tx, events, &fold.keyring)).catch_unwind().await)
}

/// Lets the read model forget a subject; answers how many rows that were.
pub(crate) async fn forget(fold: &Fold, tx: &mut PgConnection, subject: Uuid) -> Result<u64, Fault> {
    judge(AssertUnwindSafe(fold.model.forget(tx, subject, &fold.keyring)).catch_unwind().await)
}

fn judge<T>(outcome: std::thread::Result<Result<T, ApplyError>>) -> Result<T, Fault> {
    match outcome {
        Ok(applied) => applied.map_err(|error| Fault::of(&error)),
        Err(_) => Err(Fault::Lasting(Reason::new("panicked", &["the read model panicked"]))),
    }
}
