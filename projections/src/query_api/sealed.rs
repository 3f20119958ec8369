//! Sealed rows on their way out.

use std::collections::HashMap;

use nexus_event_store::KeyError;
use nexus_web::access;
use nexus_web::problem::Problem;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::QueryApi;

/// The private part of a row, and what its seal is bound to.
pub struct Sealed {
    pub subject: Uuid,
    pub context: String,
    pub bytes: Vec<u8>,
}

impl QueryApi {
    /// Opens the private parts of a page; keys that are not at hand come in one round trip. Nothing stands where the
    /// subject was erased: for a reader, it was never there.
    /// The access log learns whose they were.
    pub async fn open<T: DeserializeOwned>(&self, rows: Vec<Sealed>) -> Result<Vec<Option<T>>, Problem> {
        let subjects: Vec<_> = rows.iter().map(|row| row.subject).collect();
        let opened = self.open_of_no_patient(rows).await?;
        access::note_patients(
            subjects.into_iter().zip(&opened).filter_map(|(subject, it)| it.as_ref().map(|_| subject)),
        );
        Ok(opened)
    }

    /// The same for rows whose subjects are not patients.
    pub async fn open_of_no_patient<T: DeserializeOwned>(&self, rows: Vec<Sealed>) -> Result<Vec<Option<T>>, Problem> {
        let subjects: Vec<_> = rows.iter().map(|row| row.subject).collect();
        let mut keys = self.keyring().keys(&subjects).await;
        // A row that a projector has just sealed with a new key of its subject: the one at hand is older.
        let is_newer = |row: &&Sealed| matches!(keys.get(&row.subject), Some(Ok(key)) if !key.opens_row(&row.bytes));
        let newer: Vec<_> = rows.iter().filter(is_newer).map(|row| row.subject).collect();
        if !newer.is_empty() {
            newer.iter().for_each(|subject| self.keyring().forget(*subject));
            keys.extend(self.keyring().keys(&newer).await);
        }
        rows.iter().map(|row| self.open_one(row, &keys)).collect()
    }

    /// Whether the subject was erased: then nothing of it is served, whatever a read model may still hold. A key at hand
    /// answers by itself; when the key store is needed and away, nobody can tell, and nothing is served either.
    pub async fn is_erased(&self, subject: Uuid) -> Result<bool, Problem> {
        match self.keyring().key(subject).await {
            Ok(_) | Err(KeyError::NeverHadOne) => Ok(false),
            Err(KeyError::Erased) => Ok(true),
            Err(error) => Err(key_problem(error)),
        }
    }

    fn open_one<T: DeserializeOwned>(
        &self,
        row: &Sealed,
        keys: &HashMap<Uuid, Result<nexus_event_store::SubjectKey, KeyError>>,
    ) -> Result<Option<T>, Problem> {
        let key = match keys.get(&row.subject).unwrap_or(&Err(KeyError::Unavailable)) {
            Ok(key) => key,
            Err(KeyError::Erased) => return Ok(None),
            Err(error) => return Err(key_problem(*error)),
        };
        let opened = self.keyring().open_row(key, &row.context, &row.bytes);
        let plain = opened.map_err(|error| Problem::from_error(&error))?;
        // The error of serde may quote the row, so it is dropped.
        serde_json::from_slice(&plain).map(Some).map_err(|_| unreadable())
    }
}

fn key_problem(error: KeyError) -> Problem {
    match error {
        KeyError::Unavailable | KeyError::NotProvisioned => Problem::store_unavailable(),
        KeyError::NeverHadOne | KeyError::Unreadable | KeyError::Erased => Problem::from_error(&error),
    }
}

fn unreadable() -> Problem {
    tracing::error!("an opened row has not the expected form");
    Problem::internal()
}
