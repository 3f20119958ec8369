//! The end of a subject's keys: destroyed, written down, and kept from coming back.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::FromRow;
use uuid::Uuid;

use super::Keyring;
use super::store::{Stored, WrappedKey};
use crate::error::Error;

const FINGERPRINT_LABEL: &[u8] = b"nexus-key-fingerprint-1|";
const MAC_DOMAIN: &str = "nexus-erasure-record-1";

/// An erasure that has been decided: what the log says of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Erasure {
    pub subject: Uuid,
    /// The key that the erasing event names.
    pub key_id: Uuid,
    /// The event that erased the subject.
    pub event_id: Uuid,
    /// Where it stands: everything of the subject up to here is erased.
    pub partition: i32,
    pub position: i64,
    /// Who asked for it; nothing where the event could not be read any more. A caller's id, as are all of these.
    pub requested_by: Option<String>,
    pub requested_at: Option<DateTime<Utc>>,
    pub approved_by: Option<String>,
    pub approved_at: Option<DateTime<Utc>>,
    /// What the log kept beside the events, and was removed.
    pub snapshots: i64,
    pub claims: i64,
}

/// An erasure as the key store has recorded it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, FromRow)]
pub struct RecordedErasure {
    pub subject: Uuid,
    /// The keys that were destroyed; none if the store did not have any (more).
    pub key_ids: Vec<Uuid>,
    /// Of each key SHA-256 over a label, its id and the key: by this a copy of it would be recognised. Empty for a key that
    /// could not be unwrapped.
    pub fingerprints: Vec<Vec<u8>>,
    pub event_id: Uuid,
    pub partition: i32,
    pub position: i64,
    pub requested_by: Option<String>,
    pub requested_at: Option<DateTime<Utc>>,
    pub approved_by: Option<String>,
    pub approved_at: Option<DateTime<Utc>>,
    pub snapshots: i64,
    pub claims: i64,
    /// When the key was destroyed.
    pub erased_at: DateTime<Utc>,
}

impl Keyring {
    /// Destroys the key of an erased subject, and forgets it in this process. Safe to repeat; there is no way back. A
    /// subject that the store does not know gets the state all the same, so that it never gets a key.
    ///
    /// # Errors
    /// If the key store does not answer.
    pub async fn erase(&self, erasure: &Erasure) -> Result<(), Error> {
        let (key_ids, fingerprints) = self.last_look(erasure.subject).await?.into_iter().unzip();
        let record = record(erasure, key_ids, fingerprints);
        sqlx::query("select destroy_key($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)")
            .bind(record.subject)
            .bind(erasure.key_id)
            .bind(&record.key_ids)
            .bind(&record.fingerprints)
            .bind(record.event_id)
            .bind(record.partition)
            .bind(record.position)
            .bind(&record.requested_by)
            .bind(record.requested_at)
            .bind(&record.approved_by)
            .bind(record.approved_at)
            .bind(record.snapshots)
            .bind(record.claims)
            .bind(record.erased_at)
            .bind(self.mac(&record).as_slice())
            .execute(&self.0.store.pool)
            .await?;
        self.forget(erasure.subject);
        Ok(())
    }

    /// Those of these subjects whose key this store has not destroyed: it may have been restored from a backup.
    pub async fn not_erased(&self, subjects: &[Uuid]) -> Result<Vec<Uuid>, Error> {
        let erased: Vec<Uuid> = sqlx::query_scalar(
            "select subject from subject_keys join erasures using (subject)
             where subject = any ($1) and state = 'erased'",
        )
        .bind(subjects)
        .fetch_all(&self.0.store.pool)
        .await?;
        let erased = HashSet::<Uuid>::from_iter(erased);
        Ok(subjects.iter().copied().filter(|subject| !erased.contains(subject)).collect())
    }

    /// What is known of the erasure of a subject, and whether that is as it was written.
    pub async fn erasure(&self, subject: Uuid) -> Result<Option<(RecordedErasure, bool)>, Error> {
        #[derive(FromRow)]
        struct Row {
            #[sqlx(flatten)]
            record: RecordedErasure,
            mac: Vec<u8>,
        }
        let row: Option<Row> = sqlx::query_as("select * from erasures where subject = $1")
            .bind(subject)
            .fetch_optional(&self.0.store.pool)
            .await?;
        Ok(row.map(|Row { record, mac }| {
            let as_written = self.mac(&record).as_slice() == mac;
            (record, as_written)
        }))
    }

    /// The ids and fingerprints of the keys that are about to go, the current one first.
    async fn last_look(&self, subject: Uuid) -> Result<Vec<(Uuid, Vec<u8>)>, Error> {
        let Some(Stored::Keys(keys)) = self.0.store.read(&[subject]).await?.remove(&subject) else {
            return Ok(Vec::new());
        };
        let look = |key: &WrappedKey| {
            // A key that can't be unwrapped is destroyed like any other.
            let opened = self.0.store.unwrap_one(subject, key).ok();
            (key.id, opened.map(|opened| fingerprint(key.id, &opened.bytes)).unwrap_or_default())
        };
        Ok(keys.iter().map(look).collect())
    }

    fn mac(&self, record: &RecordedErasure) -> [u8; 32] {
        self.blind(MAC_DOMAIN, &serde_json::to_string(record).unwrap_or_default())
    }
}

fn fingerprint(key_id: Uuid, key: &[u8; 32]) -> Vec<u8> {
    let hasher = Sha256::new().chain_update(FINGERPRINT_LABEL).chain_update(key_id.as_bytes());
    hasher.chain_update(key).finalize().to_vec()
}

fn record(erasure: &Erasure, key_ids: Vec<Uuid>, fingerprints: Vec<Vec<u8>>) -> RecordedErasure {
    let Erasure { subject, event_id, partition, position, requested_at, approved_at, snapshots, claims, .. } = *erasure;
    RecordedErasure {
        subject,
        key_ids,
        fingerprints,
        event_id,
        partition,
        position,
        requested_by: erasure.requested_by.clone(),
        requested_at: requested_at.map(cut),
        approved_by: erasure.approved_by.clone(),
        approved_at: approved_at.map(cut),
        snapshots,
        claims,
        erased_at: crate::event::now(),
    }
}

/// To what Postgres keeps, so that the record equals its own copy.
fn cut(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time)
}
