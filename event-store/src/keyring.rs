//! One data key per subject, and the hierarchy that keeps them: master key → generation key → subject keys.
//!
//! Bulk replay unwraps subject keys with a generation key held in memory, so it never calls a key service per patient.
//! "Never had a key", "erased" and "not provisioned yet" are three states, and an erased subject never gets another key.

mod erase;
mod generations;
mod master;
mod matching;
mod provision;
mod receipt;
pub mod rotate;
mod status;
mod store;
mod subject_key;
mod uses;
mod watch;
mod wrap;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sqlx::PgPool;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Error, KeyError};
use crate::event::Header;

pub use erase::{Erasure, RecordedErasure};
pub use master::{MasterKey, MasterKeyArgs, MasterKeyError, MasterKeyService, Wrapped};
use provision::Provisioner;
pub use status::{GenerationStatus, KeyStatus, status};
use store::{KeyStore, Stored};
pub(crate) use subject_key::DataKey;
pub use subject_key::SubjectKey;
use watch::{Before, Cache};
pub use watch::{ChangeMark, KeyChanges};

/// How many unwrapped subject keys a process holds at most.
const CACHE_KEYS_MAX: u64 = 100_000;
/// How long an unwrapped key is used before the store is asked again: the longest that an erasure can go unnoticed by a
/// process that can't reach the store. One that can hears of it within seconds.
const CACHE_LIFETIME: Duration = Duration::from_secs(300);

/// Reads, makes and remembers subject keys. Cheap to clone.
#[derive(Clone)]
pub struct Keyring(Arc<Shared>);

struct Shared {
    store: KeyStore,
    provisioner: Provisioner,
    cache: Cache,
    secret: Zeroizing<[u8; 32]>,
    _following: AbortOnDropHandle<()>,
}

impl Keyring {
    /// Opens the key store; on a fresh one, makes the first generation key and the secret behind [`Self::blind`].
    pub async fn connect(keys_pool: PgPool, master: MasterKey) -> Result<Self, Error> {
        let (store, secret) = KeyStore::connect(keys_pool, &master).await?;
        let provisioner = Provisioner::start(store.clone());
        let cache = Cache::new(CACHE_KEYS_MAX, CACHE_LIFETIME);
        let since = watch::mark(&store.pool).await?;
        let following = tokio::spawn(watch::follow(store.clone(), cache.clone(), since));
        let _following = AbortOnDropHandle::new(following);
        Ok(Self(Arc::new(Shared { store, provisioner, cache, secret, _following })))
    }

    /// Makes sure that each subject has a key, in one round trip. Refuses erased subjects.
    pub async fn ensure(&self, subjects: &[Uuid]) -> Result<(), Error> {
        self.ensured(subjects).await.map(drop)
    }

    /// The keys of these subjects, made where they are missing.
    pub(crate) async fn ensured(&self, subjects: &[Uuid]) -> Result<HashMap<Uuid, SubjectKey>, Error> {
        let (mut keys, missing) = self.cached(subjects);
        if missing.is_empty() {
            return Ok(keys);
        }
        let before = self.0.cache.before();
        for (subject, stored) in self.0.provisioner.ensure(missing).await? {
            let key = self.unwrap(before, subject, stored).map_err(|source| Error::Key { subject, source })?;
            keys.insert(subject, key);
        }
        Ok(keys)
    }

    /// The key of one subject.
    pub async fn key(&self, subject: Uuid) -> Result<SubjectKey, KeyError> {
        if let Some(key) = self.0.cache.get(subject) {
            return Ok(key);
        }
        self.keys(&[subject]).await.remove(&subject).unwrap_or(Err(KeyError::Unavailable))
    }

    /// The key that a sealed event names. The event is proof that its key once existed, so a store that does not
    /// know it is behind: [`KeyError::NotProvisioned`], not [`KeyError::NeverHadOne`].
    pub async fn key_of(&self, header: &Header) -> Result<SubjectKey, KeyError> {
        let key = self.keys_of(std::iter::once(header)).await.remove(&header.subject);
        named_key(header, key.unwrap_or(Err(KeyError::Unavailable)))
    }

    /// The keys of many subjects; what is not cached is read in one round trip.
    pub async fn keys(&self, subjects: &[Uuid]) -> HashMap<Uuid, Result<SubjectKey, KeyError>> {
        let (cached, missing) = self.cached(subjects);
        let mut keys: HashMap<_, _> = cached.into_iter().map(|(subject, key)| (subject, Ok(key))).collect();
        if missing.is_empty() {
            return keys;
        }
        let before = self.0.cache.before();
        match self.0.store.read(&missing).await {
            Ok(mut stored) => keys.extend(missing.into_iter().map(|subject| {
                let key = stored.remove(&subject).ok_or(KeyError::NeverHadOne);
                (subject, key.and_then(|stored| self.unwrap(before, subject, stored)))
            })),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the key store did not answer");
                keys.extend(missing.into_iter().map(|subject| (subject, Err(KeyError::Unavailable))));
            }
        }
        keys
    }

    /// The keys of the subjects of these events. What is cached from before a rotation, and lacks the key that an event
    /// names, is read again.
    pub async fn keys_of(
        &self,
        headers: impl IntoIterator<Item = &Header>,
    ) -> HashMap<Uuid, Result<SubjectKey, KeyError>> {
        let mut subjects = Vec::new();
        for header in headers {
            subjects.push(header.subject);
            if self.0.cache.get(header.subject).is_some_and(|key| !key.opens(header.key_id)) {
                self.forget(header.subject);
            }
        }
        self.keys(&subjects).await
    }

    /// Forgets a subject's key in this process, so that the next use asks the store.
    pub fn forget(&self, subject: Uuid) {
        self.0.cache.forget(&[subject]);
    }

    /// Whose keys were erased or replaced after a mark, by any process; without a mark, since the store began. This
    /// keyring follows them by itself: what has changed leaves its memory within seconds.
    pub async fn changed_since(&self, mark: Option<&ChangeMark>) -> Result<KeyChanges, Error> {
        watch::changes(&self.0.store.pool, mark.unwrap_or(&ChangeMark::BEGINNING)).await
    }

    /// Calls this after keys were erased or replaced anywhere, for those who keep what they have opened. (It keeps what
    /// it captures for the life of the keyring: not the keyring.)
    pub fn on_changed(&self, forget: impl Fn() + Send + Sync + 'static) {
        self.0.cache.on_changed(Box::new(forget));
    }

    /// A keyed hash that can be compared and not reversed: HMAC-SHA256 under a secret kept wrapped in the key store.
    pub fn blind(&self, domain: &str, value: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.secret.as_slice()).expect("HMAC takes keys of any length");
        // The length goes first, so that no two pairs of domain and value run together into the same bytes.
        mac.update(&(domain.len() as u64).to_be_bytes());
        mac.update(domain.as_bytes());
        mac.update(value.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Seals a row of a read model; `context` names read model, table and row, and is bound by the seal.
    pub fn seal_row(&self, key: &SubjectKey, context: &str, plain: &[u8]) -> Vec<u8> {
        crate::envelope::seal_row(key, context, plain)
    }

    /// Opens a row sealed by [`Self::seal_row`] with the same key and context.
    pub fn open_row(&self, key: &SubjectKey, context: &str, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        crate::envelope::open_row(key, context, sealed).map_err(Error::Row)
    }

    fn cached(&self, subjects: &[Uuid]) -> (HashMap<Uuid, SubjectKey>, Vec<Uuid>) {
        let mut found = HashMap::with_capacity(subjects.len());
        let mut missing = Vec::new();
        for subject in subjects {
            match self.0.cache.get(*subject) {
                Some(key) => drop(found.insert(*subject, key)),
                None => missing.push(*subject),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        (found, missing)
    }

    fn unwrap(&self, before: Before, subject: Uuid, stored: Stored) -> Result<SubjectKey, KeyError> {
        let key = self.0.store.unwrap(subject, stored)?;
        self.0.cache.put(before, &key);
        Ok(key)
    }
}

/// Holds a looked-up key against the one that an event names.
pub(crate) fn named_key(header: &Header, key: Result<SubjectKey, KeyError>) -> Result<SubjectKey, KeyError> {
    match key {
        Err(KeyError::NeverHadOne) => Err(KeyError::NotProvisioned),
        Ok(key) if !key.opens(header.key_id) => Err(KeyError::NotProvisioned),
        other => other,
    }
}
