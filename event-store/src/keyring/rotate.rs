//! Other keys for what is there, while everything runs and without writing the log again.
//!
//! Rotating the master key or a generation wraps stored keys anew; the data keys, and so everything sealed with them,
//! stay. Rotating a subject's key makes another data key for what comes; what was sealed before opens with the old one.
//! Run by an operator as the owner of the key database. Each rotation that is interrupted can be run again.

mod generation;
mod master;

use sqlx::PgPool;
use uuid::Uuid;

use super::MasterKey;
use super::store::KeyStore;
use crate::error::{Error, KeyError};

pub use generation::{GenerationRotation, Pace, Rewrapped, generation};
pub use master::{MasterRotation, master};

/// Gives a subject a new data key, and returns its id. Processes seal with it from a second later on.
///
/// # Errors
/// If the subject never had a key, or was erased.
pub async fn subject(pool: &PgPool, master: &MasterKey, subject: Uuid) -> Result<Uuid, Error> {
    let (store, _) = KeyStore::connect(pool.clone(), master).await?;
    if store.replace(subject).await? {
        let current = sqlx::query_scalar("select key_id from subject_keys where subject = $1 and current");
        return Ok(current.bind(subject).fetch_one(pool).await?);
    }
    let known = store.read(&[subject]).await?.contains_key(&subject);
    let source = if known { KeyError::Erased } else { KeyError::NeverHadOne };
    Err(Error::Key { subject, source })
}
