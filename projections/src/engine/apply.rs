//! The transaction: checkpoint first, then rows, then commit.
//!
//! Moving the checkpoint first takes its row lock, so that everything after it (which subjects are parked, the rows)
//! is read and written by one owner at a time, and an owner of yesterday learns it before it has written anything.

use std::collections::{BTreeMap, HashSet};
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use nexus_event_store::SealedEvent;
use sqlx::{Acquire, PgConnection};
use uuid::Uuid;

use super::checkpoint::{self, Name, Ownership};
use super::fault::{Fault, Reason};
use super::forgotten;
use super::host::{Fold, Host};
use super::open::{Opened, Unreadable};
use super::parked::{self, BEHIND};
use crate::read_model::{ApplyError, Event};

/// A batch that is ready for its transaction.
pub(crate) struct Prepared<'a> {
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
pub(crate) async fn together(host: &Host, batch: &Prepared<'_>) -> Result<ParkedCount, Refused> {
    if let Some(unreadable) = batch.opened.unreadable.first() {
        return Err(Refused::Fault(Fault::Lasting(Reason::unreadable(unreadable.reason))));
    }
    let mut tx = host.pool.begin().await?;
    let mut parking = Parking::begin(host, batch, &mut tx).await?;
    if parking.subjects.is_empty() {
        apply(&host.fold, &mut tx, &batch.opened.events).await.map_err(Refused::Fault)?;
    } else {
        let free = parking.hold_back(&batch.opened.events);
        apply(&host.fold, &mut tx, &free).await.map_err(Refused::Fault)?;
    }
    let parked = parking.finish(&mut tx).await?;
    tx.commit().await?;
    Ok(parked)
}

/// Applies the batch in halves of halves until each event at fault stands alone, and parks those.
pub(crate) async fn apart(host: &Host, batch: &Prepared<'_>) -> Result<ParkedCount, Refused> {
    let mut tx = host.pool.begin().await?;
    let mut parking = Parking::begin(host, batch, &mut tx).await?;
    let mut work = work_of(batch.opened);
    while let Some(next) = work.pop() {
        match next {
            Work::Park(unreadable) => {
                parking.park(unreadable.position, unreadable.subject, Reason::unreadable(unreadable.reason));
            }
            Work::Apply(events) => {
                let free = parking.hold_back(events);
                match apply_in_savepoint(host, &mut tx, &free).await? {
                    Ok(()) => {}
                    Err(reason) if free.len() == 1 => parking.park(free[0].position, free[0].subject, reason),
                    Err(_) => {
                        let (first, second) = events.split_at(events.len() / 2);
                        work.extend([Work::Apply(second), Work::Apply(first)]);
                        parking.release(events);
                    }
                }
            }
        }
    }
    let parked = parking.finish(&mut tx).await?;
    tx.commit().await?;
    Ok(parked)
}

enum Work<'a> {
    Apply(&'a [Event]),
    Park(Unreadable),
}

/// The batch as a stack: runs of readable events, cut where an unreadable one stands.
fn work_of(opened: &Opened) -> Vec<Work<'_>> {
    let mut work = Vec::new();
    let mut rest = opened.events.as_slice();
    for unreadable in &opened.unreadable {
        let (before, after) = rest.split_at(rest.partition_point(|event| event.position < unreadable.position));
        work.extend([Work::Apply(before), Work::Park(*unreadable)]);
        rest = after;
    }
    work.push(Work::Apply(rest));
    work.retain(|item| !matches!(item, Work::Apply([])));
    work.reverse();
    work
}

/// What is parked, and what this batch adds to it.
struct Parking<'a> {
    name: Name<'a>,
    batch: &'a Prepared<'a>,
    /// Parked before this batch or by it: later events of these go behind.
    subjects: HashSet<Uuid>,
    /// By position, so that holding an event back twice parks it once.
    rows: BTreeMap<i64, Reason>,
    count: ParkedCount,
}

impl<'a> Parking<'a> {
    async fn begin(host: &'a Host, batch: &'a Prepared<'a>, tx: &mut PgConnection) -> Result<Self, Refused> {
        let name = host.fold.name();
        let moved = checkpoint::advance(tx, name, batch.partition, &batch.from, &batch.to).await?;
        let mut count = moved.ok_or(Refused::Moved)?;
        for (subject, position) in &batch.opened.erased {
            let rows = forget(&host.fold, tx, *subject).await.map_err(Refused::Fault)?;
            let parked = match count {
                0 => 0,
                _ => parked::remove_subject(tx, name, batch.partition, *subject).await?,
            };
            count -= parked;
            forgotten::note(tx, name, (batch.partition, *position), *subject, (rows, parked)).await?;
        }
        let subjects = match count {
            0 => HashSet::new(),
            _ => parked::subjects(tx, name, batch.partition).await?,
        };
        Ok(Self { name, batch, subjects, rows: BTreeMap::new(), count })
    }

    /// Takes out the events whose subject is parked, and puts them behind.
    fn hold_back(&mut self, events: &[Event]) -> Vec<Event> {
        let (behind, free): (Vec<&Event>, Vec<&Event>) =
            events.iter().partition(|event| self.subjects.contains(&event.subject));
        for event in behind {
            self.rows.entry(event.position).or_insert_with(|| Reason::new(BEHIND, &[]));
        }
        free.into_iter().cloned().collect()
    }

    /// Undoes [`Self::hold_back`] for events that will be looked at again, in smaller portions.
    fn release(&mut self, events: &[Event]) {
        for event in events {
            self.rows.remove(&event.position);
        }
    }

    fn park(&mut self, position: i64, subject: Uuid, reason: Reason) {
        let reason = if self.subjects.insert(subject) { reason } else { Reason::new(BEHIND, &[]) };
        self.rows.insert(position, reason);
    }

    async fn finish(self, tx: &mut PgConnection) -> Result<ParkedCount, sqlx::Error> {
        if self.rows.is_empty() {
            return Ok(self.count);
        }
        let first = self.batch.sealed.first().map_or(0, |event| event.position);
        let rows = self.rows.iter().filter_map(|(position, reason)| {
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
    host: &Host,
    tx: &mut PgConnection,
    events: &[Event],
) -> Result<Result<(), Reason>, Refused> {
    let mut savepoint = tx.begin().await?;
    match apply(&host.fold, &mut savepoint, events).await {
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
