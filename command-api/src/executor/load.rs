//! From stored events to the state that a command is decided on.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use nexus_domain::{ReadError, Record, read};
use nexus_event_store::{Error, EventLog, StoredEvent};
use uuid::Uuid;

use super::lean::{Caches, Lean};

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
}

impl<A: Record> Standing<A> {
    /// Folds a stream, whatever versions its events were written in.
    pub fn fold(events: Vec<StoredEvent>) -> Result<Self, ReadError> {
        let mut standing = Self::default();
        for stored in events {
            let event = read::<A>(&stored.header.event_type, &stored.header.event_version, stored.payload)?;
            standing.advance(event, stored.header.subject, stored.header.recorded_at);
        }
        Ok(standing)
    }

    /// One event further.
    pub fn advance(&mut self, event: A::Event, subject: Uuid, recorded_at: DateTime<Utc>) {
        self.state.apply(event);
        self.sequence += 1;
        self.subject = Some(subject);
        self.recorded_at = Some(recorded_at);
    }
}

/// Whether a state in memory will do. The append checks the sequence, so a decision to store something can't be wrong
/// for long; an answer that stores nothing is given on a fresh state only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    Cached,
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

/// Loads an aggregate; the flag tells whether it came from memory.
pub async fn load<A: Lean>(
    log: &EventLog,
    caches: &Caches,
    id: Uuid,
    freshness: Freshness,
) -> Result<(Arc<Standing<A>>, bool), LoadError> {
    if freshness == Freshness::Cached
        && let Some((_, standing)) = A::cache(caches).get(id)
    {
        return Ok((standing, true));
    }
    let standing = Arc::new(Standing::<A>::fold(log.stream(A::TYPE, id).await?)?);
    keep(caches, id, &standing);
    Ok((standing, false))
}

/// Remembers an aggregate that exists.
pub fn keep<A: Lean>(caches: &Caches, id: Uuid, standing: &Arc<Standing<A>>) {
    if standing.sequence > 0 {
        A::cache(caches).put(id, standing.sequence, Arc::clone(standing));
    }
}
