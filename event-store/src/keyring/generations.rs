//! Generation keys: unwrapped once by the master key, then kept in memory. A master key service that is away stops no
//! process that runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, RwLock};

use sqlx::PgPool;

use super::MasterKey;
use super::wrap::{self, KeyBytes};
use crate::error::Error;

/// The generation that a fresh store starts with.
const GENERATION_FIRST: i32 = 1;
/// How many wraps a process reserves at a time; a restart gives up what is left of them.
const WRAPS_BLOCK: i64 = 1 << 16;
/// How many keys one generation wraps at most: the bound of AES-GCM with random nonces.
pub(super) const WRAPS_MAX: i64 = 1 << 32;
/// From here on, the log asks for a new generation.
const WRAPS_WARN: i64 = 1 << 31;

/// The unwrapped generation keys of this process.
pub(super) struct Generations {
    pool: PgPool,
    master: MasterKey,
    keys: RwLock<BTreeMap<i32, KeyBytes>>,
    /// A generation, and how many of its reserved wraps are left.
    wraps_left: Mutex<(i32, i64)>,
}

impl Generations {
    /// Unwraps every generation key; on a fresh store, makes the first. Whoever of several processes is first wins.
    pub(super) async fn open(pool: PgPool, master: MasterKey) -> Result<Self, Error> {
        let generations = Self { pool, master, keys: RwLock::default(), wraps_left: Mutex::default() };
        generations.learn().await?;
        if generations.newest().is_none() {
            let wrapped = generations.master.wrap(&generation_name(GENERATION_FIRST), &wrap::random_key()).await?;
            sqlx::query(
                "insert into generations (id, wrapped, master) values ($1, $2, $3) on conflict (id) do nothing",
            )
            .bind(GENERATION_FIRST)
            .bind(&wrapped.bytes)
            .bind(&wrapped.by)
            .execute(&generations.pool)
            .await?;
            generations.learn().await?;
        }
        Ok(generations)
    }

    /// Unwraps the generations that are in the store and not yet in memory.
    pub(super) async fn learn(&self) -> Result<(), Error> {
        let known: Vec<i32> = self.keys.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        let rows: Vec<(i32, Vec<u8>, Option<String>)> =
            sqlx::query_as("select id, wrapped, master from generations where id <> all($1) order by id")
                .bind(known)
                .fetch_all(&self.pool)
                .await?;
        for (id, wrapped, by) in rows {
            let key = self.master.unwrap(&generation_name(id), &wrapped, by.as_deref()).await?;
            self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(id, key);
        }
        Ok(())
    }

    /// The generation that wraps new subject keys, as far as this process knows.
    pub(super) fn newest(&self) -> Option<i32> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).last_key_value().map(|(id, _)| *id)
    }

    pub(super) fn knows(&self, id: i32) -> bool {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    pub(super) fn wrap(&self, id: i32, name: &str, key: &KeyBytes) -> Option<Vec<u8>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        Some(wrap::wrap(keys.get(&id)?, name, key))
    }

    pub(super) fn unwrap(&self, id: i32, name: &str, wrapped: &[u8]) -> Option<KeyBytes> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        wrap::unwrap(keys.get(&id)?, name, wrapped)
    }

    /// Makes sure that this generation may wrap so many more keys, and says so in the store first.
    pub(super) async fn reserve(&self, id: i32, wraps: usize) -> Result<(), Error> {
        let wraps = i64::try_from(wraps).unwrap_or(i64::MAX);
        if self.take_reserved(id, wraps) {
            return Ok(());
        }
        let block = wraps.max(WRAPS_BLOCK);
        let reserved: Option<i64> = sqlx::query_scalar(
            "update generations set wraps_reserved = wraps_reserved + $2
             where id = $1 and wraps_reserved + $2 <= $3 returning wraps_reserved",
        )
        .bind(id)
        .bind(block)
        .bind(WRAPS_MAX)
        .fetch_optional(&self.pool)
        .await?;
        let reserved = reserved.ok_or(Error::GenerationExhausted(id))?;
        if reserved >= WRAPS_WARN {
            tracing::warn!(
                generation = id,
                wraps = reserved,
                "a generation key has wrapped half of what it may; rotate it"
            );
        }
        *self.wraps_left.lock().unwrap_or_else(PoisonError::into_inner) = (id, block - wraps);
        Ok(())
    }

    fn take_reserved(&self, id: i32, wraps: i64) -> bool {
        let mut left = self.wraps_left.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = left.0 == id && left.1 >= wraps;
        if enough {
            left.1 -= wraps;
        }
        enough
    }
}

/// What a generation key is called where the master key wraps it.
pub(super) fn generation_name(id: i32) -> String {
    format!("nexus-generation-key-1|{id}")
}
