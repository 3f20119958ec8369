//! Streams from their latest snapshot on.
//!
//! The event of the snapshot itself is read along: it says whose key opens the snapshot, and a snapshot whose event the
//! log does not have is not used.

use cqrs_es::Aggregate;
use cqrs_es::persist::{PersistedEventRepository, PersistenceError};
use serde_json::Value;
use sqlx::Row;
use uuid::Uuid;

use crate::error::Error;
use crate::event::{Header, SealedEvent, StoredEvent};
use crate::log::EventLog;
use crate::{cqrs, load, snapshot};

/// A stream as it is read to fold it.
#[derive(Debug)]
pub struct Resumed {
    /// The header of an event and the state after it, if there is a snapshot that opens.
    pub snapshot: Option<(Header, Value)>,
    /// The events after it, or all of them.
    pub events: Vec<StoredEvent>,
}

/// A sealed snapshot and the sequence that it stands at.
type Sealed = (i64, Vec<u8>);

impl EventLog {
    /// The stream of an aggregate that nobody asked for lately, read by a stock repository of postgres-es.
    pub async fn resume_cold<A: Aggregate>(&self, aggregate_id: Uuid) -> Result<Resumed, Error> {
        let snapshot = snapshot::find(self.pool(), (A::TYPE, aggregate_id)).await?;
        let repository = cqrs::repository(self);
        let id = aggregate_id.to_string();
        let rows = match &snapshot {
            None => repository.get_events::<A>(&id).await,
            Some((sequence, _)) => {
                repository.get_last_events::<A>(&id, usize::try_from(sequence - 1).unwrap_or_default()).await
            }
        };
        let rows = rows.map_err(persistence_error)?;
        let sealed: Result<Vec<_>, _> = rows.into_iter().map(cqrs::sealed_event).collect();
        self.resumed(A::TYPE, aggregate_id, snapshot, sealed.map_err(Error::Schema)?).await
    }

    /// The same in one statement of our own, for one that is in use.
    pub async fn resume(&self, aggregate_type: &str, aggregate_id: Uuid) -> Result<Resumed, Error> {
        let rows = sqlx::query(&format!(
            "select {columns}, kept.sealed as snapshot
             from events e left join snapshots kept
                on kept.aggregate_type = e.aggregate_type and kept.aggregate_id = e.aggregate_id
                and kept.sequence = e.sequence
             where e.aggregate_type = $1 and e.aggregate_id = $2 and e.sequence >= coalesce(
                (select s.sequence from snapshots s join events of_it using (aggregate_type, aggregate_id, sequence)
                 where s.aggregate_type = $1 and s.aggregate_id = $2), 0)
             order by e.sequence",
            columns = load::COLUMNS.split(", ").map(|column| format!("e.{column}")).collect::<Vec<_>>().join(", "),
        ))
        .bind(aggregate_type)
        .bind(aggregate_id.to_string())
        .fetch_all(self.pool())
        .await?;
        let sealed = rows.iter().map(load::read_event).collect::<Result<Vec<_>, _>>()?;
        let snapshot = match rows.first() {
            Some(row) => row.try_get::<Option<Vec<u8>>, _>("snapshot")?.zip(sealed.first()),
            None => None,
        };
        let snapshot = snapshot.map(|(snapshot, event)| (event.header.sequence, snapshot));
        self.resumed(aggregate_type, aggregate_id, snapshot, sealed).await
    }

    async fn resumed(
        &self,
        aggregate_type: &str,
        aggregate_id: Uuid,
        snapshot: Option<Sealed>,
        mut events: Vec<SealedEvent>,
    ) -> Result<Resumed, Error> {
        let Some((sequence, sealed)) = snapshot else {
            return Ok(Resumed { snapshot: None, events: load::open_all(self.keyring(), events).await? });
        };
        let header = events.first().map(|event| event.header.clone()).filter(|header| header.sequence == sequence);
        if let Some(header) = header {
            let key = self.keyring().key(header.subject).await;
            let key = key.map_err(|source| Error::Key { subject: header.subject, source })?;
            let state = snapshot::open(&key, (aggregate_type, aggregate_id), sequence, &sealed);
            if let Some(state) = state.and_then(|state| serde_json::from_slice(&state).ok()) {
                events.remove(0);
                let events = load::open_all(self.keyring(), events).await?;
                return Ok(Resumed { snapshot: Some((header, state)), events });
            }
        }
        Ok(Resumed { snapshot: None, events: self.stream(aggregate_type, aggregate_id).await? })
    }
}

fn persistence_error(error: PersistenceError) -> Error {
    match error {
        PersistenceError::ConnectionError(source) | PersistenceError::UnknownError(source) => {
            Error::Unavailable(Some(source))
        }
        other => Error::Schema(Box::new(other)),
    }
}
