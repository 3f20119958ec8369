//! Erased subjects, as the log knows them: by an event, whose header says so to whoever can't open it.
//!
//! The append refuses everything about a subject after that event, so there is nothing to undo here: what stands beside the
//! events is removed, and the key is destroyed by [`Keyring::erase`](crate::Keyring::erase).

use sqlx::Row;
use uuid::Uuid;

use crate::error::Error;
use crate::event::SealedEvent;
use crate::load;
use crate::log::EventLog;

/// A subject that was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasedSubject {
    pub subject: Uuid,
    /// Nothing is left beside its events.
    pub forgotten: bool,
}

/// What was removed of an erased subject beside its events, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    pub snapshots: i64,
    pub claims: i64,
}

impl EventLog {
    /// Erased subjects in the order of their ids: at most `limit` of them after this one.
    pub async fn erased_subjects(&self, after: Uuid, limit: i64) -> Result<Vec<ErasedSubject>, Error> {
        let rows = sqlx::query(
            "select e.subject, f.subject is not null as forgotten
             from events e left join forgotten f on f.subject = e.subject
             where e.event_type = 'Patient.Erased' and e.subject > $1 order by e.subject limit $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        let read = |row: &sqlx::postgres::PgRow| {
            Ok(ErasedSubject { subject: row.try_get("subject")?, forgotten: row.try_get("forgotten")? })
        };
        rows.iter().map(read).collect()
    }

    /// The event that erased a subject, sealed: its key may be gone.
    pub async fn erasure_of(&self, subject: Uuid) -> Result<Option<SealedEvent>, Error> {
        let row = sqlx::query(&format!(
            "select {} from events where event_type = 'Patient.Erased' and subject = $1",
            load::COLUMNS
        ))
        .bind(subject)
        .fetch_optional(self.pool())
        .await?;
        row.as_ref().map(load::read_event).transpose()
    }

    /// Removes snapshots and claims of an erased subject. Safe to repeat.
    ///
    /// # Errors
    /// If the subject was not erased, or the store does not answer.
    pub async fn forget_subject(&self, subject: Uuid) -> Result<Forgotten, Error> {
        let row = sqlx::query("select snapshots, claims from forget_subject($1)")
            .bind(subject)
            .fetch_one(self.pool())
            .await?;
        Ok(Forgotten { snapshots: row.try_get("snapshots")?, claims: row.try_get("claims")? })
    }
}
