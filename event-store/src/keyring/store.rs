//! The key database: what is stored is always wrapped, and an erased row keeps nothing to unwrap.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Row};
use uuid::Uuid;

use super::generations::Generations;
use super::subject_key::DataKey;
use super::uses::{self, Uses};
use super::wrap::{self, KeyBytes};
use super::{MasterKey, MasterKeyError, SubjectKey};
use crate::error::{Error, KeyError};

const BLIND_SECRET: &str = "blind";
/// How long a start waits for a master key service that is away, before it fails and whoever keeps the process starts it
/// again.
const START_PATIENCE: Duration = Duration::from_secs(60);
const START_PAUSE: Duration = Duration::from_secs(1);
/// How long a request waits for the key of a generation that nobody has told this process about yet.
const LEARN_PATIENCE: Duration = Duration::from_secs(2);

/// What is stored of a subject: its wrapped keys, the current one first, or that it was erased.
#[derive(Clone)]
pub(super) enum Stored {
    Keys(Vec<WrappedKey>),
    Erased,
}

#[derive(Clone)]
pub(super) struct WrappedKey {
    pub(super) id: Uuid,
    pub(super) generation: i32,
    pub(super) wrapped: Vec<u8>,
    /// How often it has sealed, as far as that is known.
    seals: i64,
}

impl Stored {
    fn generations(&self) -> impl Iterator<Item = i32> {
        let keys = match self {
            Self::Keys(keys) => keys.as_slice(),
            Self::Erased => &[],
        };
        keys.iter().map(|key| key.generation)
    }

    /// Whether the current key has sealed so often that another should take its place.
    pub(super) fn is_worn(&self) -> bool {
        matches!(self, Self::Keys(keys) if keys.first().is_some_and(|current| current.seals >= uses::SEALS_MAX))
    }
}

/// The pool, and the unwrapped generation keys.
#[derive(Clone)]
pub(super) struct KeyStore {
    pub(super) pool: PgPool,
    pub(super) generations: Arc<Generations>,
    pub(super) uses: Uses,
}

impl KeyStore {
    /// Opens the store, after which keys are in the memory of this process: it dumps no core from here on. Waits, within
    /// bounds, for a master key that is away; the key database has to be there.
    pub(super) async fn connect(pool: PgPool, master: &MasterKey) -> Result<(Self, KeyBytes), Error> {
        nexus_web::harden().map_err(|error| Error::Unavailable(Some(error.into())))?;
        let started = Instant::now();
        loop {
            match Self::try_connect(pool.clone(), master).await {
                Err(Error::MasterKey(MasterKeyError::Unavailable(why))) if started.elapsed() < START_PATIENCE => {
                    tracing::warn!(why, "the master key can't be used yet; trying again");
                    tokio::time::sleep(START_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_connect(pool: PgPool, master: &MasterKey) -> Result<(Self, KeyBytes), Error> {
        let generations = Arc::new(Generations::open(pool.clone(), master.clone()).await?);
        let secret = open_secret(&pool, master, BLIND_SECRET).await?;
        Ok((Self { pool, generations, uses: Uses::default() }, secret))
    }

    /// Reads the keys of these subjects; those without any are left out.
    pub(super) async fn read(&self, subjects: &[Uuid]) -> Result<HashMap<Uuid, Stored>, Error> {
        let rows = sqlx::query(
            "select subject, key_id, generation, wrapped, state, coalesce(seals, 0) as seals
             from subject_keys left join key_uses using (key_id)
             where subject = any($1) order by subject, current desc, created_at desc",
        )
        .bind(subjects)
        .fetch_all(&self.pool)
        .await?;
        let mut stored = HashMap::with_capacity(subjects.len());
        for row in &rows {
            read_row(row, &mut stored)?;
        }
        self.learn_generations(&stored).await;
        Ok(stored)
    }

    /// Makes a key for each subject that has no row and for each whose key is worn, and reads the rows of all. Sorted
    /// input, as two processes that insert the same subjects in different orders would deadlock.
    pub(super) async fn provision(&self, subjects: &[Uuid]) -> Result<HashMap<Uuid, Stored>, Error> {
        let existing = self.read(subjects).await?;
        let missing: Vec<_> = subjects.iter().copied().filter(|subject| !existing.contains_key(subject)).collect();
        let worn: Vec<_> =
            existing.iter().filter(|(_, stored)| stored.is_worn()).map(|(subject, _)| *subject).collect();
        if missing.is_empty() && worn.is_empty() {
            return Ok(existing);
        }
        for subject in worn {
            self.replace(subject).await?;
        }
        if !missing.is_empty() {
            let generation = self.reserve(missing.len()).await?;
            self.insert(&self.pool, generation, &missing).await?;
        }
        // Read back rather than believe the insert: another process may have been first.
        self.read(subjects).await
    }

    /// Gives a subject a new current key; the old one stays to open what it sealed. False if there is no key to replace.
    pub(super) async fn replace(&self, subject: Uuid) -> Result<bool, Error> {
        let generation = self.reserve(1).await?;
        let mut transaction = self.pool.begin().await?;
        let retired = "update subject_keys set current = false where subject = $1 and current and state = 'active'";
        if sqlx::query(retired).bind(subject).execute(&mut *transaction).await?.rows_affected() == 0 {
            return Ok(false);
        }
        self.insert(&mut *transaction, generation, &[subject]).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The generation to wrap so many keys under.
    async fn reserve(&self, wraps: usize) -> Result<i32, Error> {
        let generation = self.generations.newest().ok_or(Error::Unavailable(None))?;
        self.generations.reserve(generation, wraps).await?;
        Ok(generation)
    }

    /// Inserts a new current key for each of these subjects that has none.
    async fn insert(&self, on: impl PgExecutor<'_>, generation: i32, subjects: &[Uuid]) -> Result<(), Error> {
        let key_ids: Vec<_> = subjects.iter().map(|_| Uuid::new_v4()).collect();
        let wrapped: Option<Vec<_>> = subjects
            .iter()
            .zip(&key_ids)
            .map(|(subject, id)| {
                self.generations.wrap(generation, &key_name(*subject, *id, generation), &wrap::random_key())
            })
            .collect();
        sqlx::query(
            "insert into subject_keys (subject, key_id, generation, wrapped)
             select subject, key_id, $3, wrapped from unnest($1::uuid[], $2::uuid[], $4::bytea[]) as new (subject, key_id, wrapped)
             order by subject
             on conflict (subject) where current do nothing",
        )
        .bind(subjects)
        .bind(key_ids)
        .bind(generation)
        .bind(wrapped.ok_or(Error::Unavailable(None))?)
        .execute(on)
        .await?;
        Ok(())
    }

    pub(super) fn unwrap(&self, subject: Uuid, stored: Stored) -> Result<SubjectKey, KeyError> {
        let Stored::Keys(keys) = stored else { return Err(KeyError::Erased) };
        let mut keys = keys.into_iter().map(|key| self.unwrap_one(subject, &key));
        let current = keys.next().ok_or(KeyError::Unreadable)??;
        Ok(SubjectKey::new(subject, current, keys.collect::<Result<_, _>>()?, self.uses.clone()))
    }

    pub(super) fn unwrap_one(&self, subject: Uuid, key: &WrappedKey) -> Result<DataKey, KeyError> {
        if !self.generations.knows(key.generation) {
            // It is in the store, as a row refers to it; the master key that would unwrap it is away.
            return Err(KeyError::Unavailable);
        }
        let name = key_name(subject, key.id, key.generation);
        let bytes = self.generations.unwrap(key.generation, &name, &key.wrapped).ok_or(KeyError::Unreadable)?;
        Ok(DataKey { id: key.id, bytes })
    }

    /// Another process may have begun a generation that this one has not heard of.
    async fn learn_generations(&self, stored: &HashMap<Uuid, Stored>) {
        if stored.values().flat_map(Stored::generations).all(|id| self.generations.knows(id)) {
            return;
        }
        match tokio::time::timeout(LEARN_PATIENCE, self.generations.learn()).await {
            Ok(Ok(())) => (),
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a new generation key can't be unwrapped");
            }
            Err(_) => tracing::warn!("a new generation key can't be unwrapped in time"),
        }
    }
}

fn read_row(row: &PgRow, stored: &mut HashMap<Uuid, Stored>) -> Result<(), sqlx::Error> {
    let subject = row.try_get("subject")?;
    let wrapped: Option<Vec<u8>> = row.try_get("wrapped")?;
    match (row.try_get::<&str, _>("state")?, wrapped) {
        ("active", Some(wrapped)) => {
            let (id, generation) = (row.try_get("key_id")?, row.try_get("generation")?);
            let key = WrappedKey { id, generation, wrapped, seals: row.try_get("seals")? };
            if let Stored::Keys(keys) = stored.entry(subject).or_insert(Stored::Keys(Vec::new())) {
                keys.push(key);
            }
        }
        // One erased key is enough: erasing is of a subject.
        _ => drop(stored.insert(subject, Stored::Erased)),
    }
    Ok(())
}

/// Unwraps a secret; on a fresh store, makes it. Reads first, as most roles may not insert.
async fn open_secret(pool: &PgPool, master: &MasterKey, name: &str) -> Result<KeyBytes, Error> {
    let label = secret_name(name);
    if let Some((wrapped, by)) = read_secret(pool, name).await? {
        return master.unwrap(&label, &wrapped, by.as_deref()).await;
    }
    let wrapped = master.wrap(&label, &wrap::random_key()).await?;
    sqlx::query("insert into secrets (name, wrapped, master) values ($1, $2, $3) on conflict (name) do nothing")
        .bind(name)
        .bind(&wrapped.bytes)
        .bind(&wrapped.by)
        .execute(pool)
        .await?;
    // Another process may have been first.
    let (wrapped, by) = read_secret(pool, name).await?.ok_or(Error::Unavailable(None))?;
    master.unwrap(&label, &wrapped, by.as_deref()).await
}

async fn read_secret(pool: &PgPool, name: &str) -> Result<Option<(Vec<u8>, Option<String>)>, sqlx::Error> {
    sqlx::query_as("select wrapped, master from secrets where name = $1").bind(name).fetch_optional(pool).await
}

/// What a secret is called where the master key wraps it.
pub(super) fn secret_name(name: &str) -> String {
    format!("nexus-secret-1|{name}")
}

/// What a subject's key is called where a generation key wraps it.
pub(super) fn key_name(subject: Uuid, key_id: Uuid, generation: i32) -> String {
    format!("nexus-subject-key-1|{subject}|{key_id}|{generation}")
}
