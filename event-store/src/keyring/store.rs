//! The key database: what is stored is always wrapped, and an erased row keeps nothing to unwrap.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::wrap::{self, KeyBytes};
use super::{MasterKey, SubjectKey};
use crate::error::{Error, KeyError};

/// The generation that a fresh store starts with.
const GENERATION_FIRST: i32 = 1;
const BLIND_SECRET: &str = "blind";

/// A subject's row: its wrapped key, or that it was erased.
#[derive(Clone)]
pub(super) enum Stored {
    Active { key_id: Uuid, generation: i32, wrapped: Vec<u8> },
    Erased,
}

/// The pool, and the unwrapped generation keys.
#[derive(Clone)]
pub(super) struct KeyStore {
    pool: PgPool,
    generations: Arc<BTreeMap<i32, KeyBytes>>,
}

impl KeyStore {
    pub(super) async fn connect(pool: PgPool, master: &MasterKey) -> Result<(Self, KeyBytes), Error> {
        let generations = Arc::new(open_generations(&pool, master).await?);
        let secret = open_secret(&pool, master, BLIND_SECRET).await?;
        Ok((Self { pool, generations }, secret))
    }

    /// For what else the key database knows of subjects.
    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Reads the rows of these subjects; those without one are left out.
    pub(super) async fn read(&self, subjects: &[Uuid]) -> Result<HashMap<Uuid, Stored>, sqlx::Error> {
        let rows =
            sqlx::query("select subject, key_id, generation, wrapped, state from subject_keys where subject = any($1)")
                .bind(subjects)
                .fetch_all(&self.pool)
                .await?;
        rows.iter().map(read_row).collect()
    }

    /// Makes a key for each subject that has no row, and reads the rows of all. Sorted input, as two processes that
    /// insert the same subjects in different orders would deadlock.
    pub(super) async fn provision(&self, subjects: &[Uuid]) -> Result<HashMap<Uuid, Stored>, sqlx::Error> {
        let existing = self.read(subjects).await?;
        let missing: Vec<_> = subjects.iter().copied().filter(|subject| !existing.contains_key(subject)).collect();
        if missing.is_empty() {
            return Ok(existing);
        }
        self.insert(&missing).await?;
        // Read back rather than believe the insert: another process may have been first.
        self.read(subjects).await
    }

    async fn insert(&self, subjects: &[Uuid]) -> Result<(), sqlx::Error> {
        let Some((generation, outer)) = self.generations.last_key_value() else {
            return Ok(());
        };
        let key_ids: Vec<_> = subjects.iter().map(|_| Uuid::new_v4()).collect();
        let wrapped: Vec<_> = subjects
            .iter()
            .zip(&key_ids)
            .map(|(subject, key_id)| wrap::wrap(outer, &key_name(*subject, *key_id, *generation), &wrap::random_key()))
            .collect();
        sqlx::query(
            "insert into subject_keys (subject, key_id, generation, wrapped)
             select subject, key_id, $3, wrapped from unnest($1::uuid[], $2::uuid[], $4::bytea[]) as new (subject, key_id, wrapped)
             order by subject
             on conflict (subject) do nothing",
        )
        .bind(subjects)
        .bind(key_ids)
        .bind(generation)
        .bind(wrapped)
        .execute(&self.pool)
        .await
        .map(drop)
    }

    pub(super) fn unwrap(&self, subject: Uuid, stored: Stored) -> Result<SubjectKey, KeyError> {
        match stored {
            Stored::Erased => Err(KeyError::Erased),
            Stored::Active { key_id, generation, wrapped } => {
                let outer = self.generations.get(&generation).ok_or(KeyError::Unreadable)?;
                let bytes = wrap::unwrap(outer, &key_name(subject, key_id, generation), &wrapped);
                Ok(SubjectKey::new(key_id, subject, bytes.ok_or(KeyError::Unreadable)?))
            }
        }
    }
}

fn read_row(row: &sqlx::postgres::PgRow) -> Result<(Uuid, Stored), sqlx::Error> {
    let wrapped: Option<Vec<u8>> = row.try_get("wrapped")?;
    let stored = match (row.try_get::<&str, _>("state")?, wrapped) {
        ("active", Some(wrapped)) => {
            Stored::Active { key_id: row.try_get("key_id")?, generation: row.try_get("generation")?, wrapped }
        }
        _ => Stored::Erased,
    };
    Ok((row.try_get("subject")?, stored))
}

/// Unwraps every generation key; on a fresh store, makes the first. Whoever of several processes is first wins.
async fn open_generations(pool: &PgPool, master: &MasterKey) -> Result<BTreeMap<i32, KeyBytes>, Error> {
    let mut rows = read_generations(pool).await?;
    if rows.is_empty() {
        let wrapped = master.wrap(&generation_name(GENERATION_FIRST), &wrap::random_key());
        sqlx::query("insert into generations (id, wrapped) values ($1, $2) on conflict (id) do nothing")
            .bind(GENERATION_FIRST)
            .bind(wrapped)
            .execute(pool)
            .await?;
        rows = read_generations(pool).await?;
    }
    rows.into_iter()
        .map(|(id, wrapped)| {
            let key = master.unwrap(&generation_name(id), &wrapped).ok_or(Error::WrongMasterKey)?;
            Ok((id, key))
        })
        .collect()
}

async fn read_generations(pool: &PgPool) -> Result<Vec<(i32, Vec<u8>)>, sqlx::Error> {
    sqlx::query_as("select id, wrapped from generations order by id").fetch_all(pool).await
}

/// Unwraps a secret; on a fresh store, makes it. Reads first, as most roles may not insert.
async fn open_secret(pool: &PgPool, master: &MasterKey, name: &str) -> Result<KeyBytes, Error> {
    let label = format!("nexus-secret-1|{name}");
    let mut wrapped = read_secret(pool, name).await?;
    if wrapped.is_none() {
        sqlx::query("insert into secrets (name, wrapped) values ($1, $2) on conflict (name) do nothing")
            .bind(name)
            .bind(master.wrap(&label, &wrap::random_key()))
            .execute(pool)
            .await?;
        wrapped = read_secret(pool, name).await?;
    }
    wrapped.and_then(|wrapped| master.unwrap(&label, &wrapped)).ok_or(Error::WrongMasterKey)
}

async fn read_secret(pool: &PgPool, name: &str) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar("select wrapped from secrets where name = $1").bind(name).fetch_optional(pool).await
}

fn generation_name(id: i32) -> String {
    format!("nexus-generation-key-1|{id}")
}

fn key_name(subject: Uuid, key_id: Uuid, generation: i32) -> String {
    format!("nexus-subject-key-1|{subject}|{key_id}|{generation}")
}
