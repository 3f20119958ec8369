//! From stored events to the state that a command is decided on.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use nexus_domain::{ReadError, Record, StandingVersion, StatedVersion, read};
use nexus_event_store::{Error, EventLog, KeyError, Resumed, SourceVersion, StoredEvent};
use uuid::Uuid;

use super::lean::{Caches, Lean};
use super::{Executor, snapshots};

/// An aggregate as it stands, and how far its stream has got.
#[derive(Clone, Debug, Default)]
pub struct Standing<A> {
    pub state: A,
    /// 0: there is no such stream.
    pub sequence: i64,
    /// Whose data it is; nothing as long as there is no stream.
    pub subject: Option<Uuid>,
    /// When its last event was recorded.
    pub recorded_at: Option<DateTime<Utc>>,
    /// What its last event came with, if that states what was recorded elsewhere. A snapshot does not keep it: bundles,
    /// which alone ask for it, read streams from their beginning.
    pub stated: Option<StatedVersion>,
}

impl<A: Record> Standing<A> {
    /// Folds a stream, whatever versions its events were written in.
    pub fn fold(events: Vec<StoredEvent>) -> Result<Self, ReadError> {
        let mut standing = Self::default();
        standing.fold_on(events)?;
        Ok(standing)
    }

    /// Folds further events of the same stream.
    pub fn fold_on(&mut self, events: Vec<StoredEvent>) -> Result<(), ReadError> {
        for stored in events {
            let StoredEvent { header, payload, source, .. } = stored;
            for event in read::<A>(&header.event_type, &header.event_version, payload)? {
                self.state.apply(event);
            }
            self.moved(header.subject, header.recorded_at);
            let read = |SourceVersion { version_id, last_updated }| StatedVersion { version_id, last_updated };
            self.stated = source.map(read);
        }
        Ok(())
    }

    /// One event further.
    pub fn advance(&mut self, event: A::Event, subject: Uuid, recorded_at: DateTime<Utc>) {
        self.state.apply(event);
        self.moved(subject, recorded_at);
    }

    /// The stream is longer by one, however many events that is to this version of the program.
    fn moved(&mut self, subject: Uuid, recorded_at: DateTime<Utc>) {
        self.sequence += 1;
        self.subject = Some(subject);
        self.recorded_at = Some(recorded_at);
        self.stated = None;
    }

    /// How old it is.
    pub fn version(&self) -> StandingVersion {
        let recorded = || StandingVersion::Recorded(self.recorded_at.unwrap_or_default());
        self.stated.clone().map_or_else(recorded, StandingVersion::Stated)
    }
}

/// Whether a state in memory will do. The append checks the sequence, so a decision to store something can't be wrong
/// for long; an answer that stores nothing is given on a fresh state only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// From memory if it is there.
    Cached,
    /// The same for what the command is about to create: most likely there is no such stream yet.
    Creating,
    /// From the log.
    Fresh,
}

/// What loading may run into.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Store(#[from] Error),
    #[error("an event of a stream can't be read")]
    Read(#[from] ReadError),
}

impl LoadError {
    /// Whether the subject of what was to be loaded was erased.
    pub fn is_erased(&self) -> bool {
        matches!(self, Self::Store(Error::Key { source: KeyError::Erased, .. }))
    }
}

/// Loads an aggregate; the flag tells whether it came from memory.
pub async fn load<A: Lean>(
    executor: &Executor,
    id: Uuid,
    freshness: Freshness,
) -> Result<(Arc<Standing<A>>, bool), LoadError> {
    if freshness != Freshness::Fresh
        && let Some((_, standing)) = A::cache(&executor.caches).get(id)
    {
        return Ok((standing, true));
    }
    let (standing, folded) = read_stream::<A>(&executor.log, id, freshness).await?;
    let standing = Arc::new(standing);
    keep(&executor.caches, id, &standing);
    executor.snapshots.after_load(id, folded, &standing);
    Ok((standing, false))
}

/// Reads a stream from its latest snapshot on: a cold aggregate through postgres-es, whatever is in the way of many
/// requests by a statement of our own (ADR 7). Answers how many events had to be folded, too.
async fn read_stream<A: Lean>(
    log: &EventLog,
    id: Uuid,
    freshness: Freshness,
) -> Result<(Standing<A>, usize), LoadError> {
    let Resumed { snapshot, events } = match freshness {
        Freshness::Cached => log.resume_cold::<A>(id).await?,
        Freshness::Creating | Freshness::Fresh => log.resume(A::TYPE, id).await?,
    };
    let (mut standing, events) = match snapshot {
        None => (Standing::default(), events),
        Some((header, kept)) => match snapshots::restore::<A>(&header, kept) {
            Some(standing) => (standing, events),
            None => (Standing::default(), log.stream(A::TYPE, id).await?),
        },
    };
    let folded = events.len();
    standing.fold_on(events)?;
    Ok((standing, folded))
}

/// Remembers an aggregate that exists.
pub fn keep<A: Lean>(caches: &Caches, id: Uuid, standing: &Arc<Standing<A>>) {
    if standing.sequence > 0 {
        A::cache(caches).put(id, standing.sequence, Arc::clone(standing));
    }
}
