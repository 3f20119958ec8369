//! What is still under what.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use super::generations::WRAPS_MAX;
use super::uses::SEALS_MAX;
use crate::error::Error;

/// The state of a key store. No secret is in it, and nothing that names a subject.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// Master key → how many generation keys and secrets it wraps.
    pub masters: BTreeMap<String, i64>,
    /// In order; the last one wraps new subject keys.
    pub generations: Vec<GenerationStatus>,
    /// Subjects whose current key seals.
    pub subjects: i64,
    /// Subjects whose keys were destroyed.
    pub subjects_erased: i64,
    /// Keys that only open what they sealed before their subject got another.
    pub keys_retired: i64,
    /// When the oldest key was made that still seals.
    pub oldest_current: Option<DateTime<Utc>>,
    /// How often the most used data key has sealed, to within some thousands.
    pub seals_most: i64,
    /// From this many on, a key is replaced before the next append of its subject.
    pub seals_max: i64,
    /// Current keys that have sealed so often.
    pub keys_worn: i64,
}

/// One generation.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct GenerationStatus {
    pub id: i32,
    /// The master key that wraps it.
    pub wrapped_by: String,
    pub created_at: DateTime<Utc>,
    /// Current subject keys under it.
    pub keys_current: i64,
    /// Subject keys under it that only open.
    pub keys_retired: i64,
    /// How many keys it may have wrapped so far, at most.
    pub wraps_reserved: i64,
    /// How many it wraps at most.
    #[sqlx(skip)]
    pub wraps_max: i64,
}

/// Where a row does not say which master key wraps it, as it is from before they were named.
const UNNAMED: &str = "unnamed";

/// Reads the state of a key store. Needs no key.
pub async fn status(pool: &PgPool) -> Result<KeyStatus, Error> {
    let masters: Vec<(String, i64)> = sqlx::query_as(
        "select coalesce(master, $1), count(*) from (select master from generations union all select master from secrets) as all_of_them
         group by 1",
    )
    .bind(UNNAMED)
    .fetch_all(pool)
    .await?;
    let (subjects, subjects_erased, keys_retired, oldest_current): (i64, i64, i64, Option<DateTime<Utc>>) = sqlx::query_as(
        "select count(*) filter (where state = 'active' and current), count(*) filter (where state = 'erased' and current),
                count(*) filter (where state = 'active' and not current), min(created_at) filter (where state = 'active' and current)
         from subject_keys",
    )
    .fetch_one(pool)
    .await?;
    let (seals_most, keys_worn): (i64, i64) = sqlx::query_as(
        "select coalesce(max(seals), 0), count(*) filter (where seals >= $1)
         from key_uses join subject_keys using (key_id) where current and state = 'active'",
    )
    .bind(SEALS_MAX)
    .fetch_one(pool)
    .await?;
    Ok(KeyStatus {
        masters: masters.into_iter().collect(),
        generations: generations(pool).await?,
        subjects,
        subjects_erased,
        keys_retired,
        oldest_current,
        seals_most,
        seals_max: SEALS_MAX,
        keys_worn,
    })
}

async fn generations(pool: &PgPool) -> Result<Vec<GenerationStatus>, Error> {
    let mut generations: Vec<GenerationStatus> = sqlx::query_as(
        "select id, coalesce(master, $1) as wrapped_by, generations.created_at, wraps_reserved,
                count(key_id) filter (where current) as keys_current,
                count(key_id) filter (where not current) as keys_retired
         from generations left join subject_keys on generation = id and state = 'active'
         group by id order by id",
    )
    .bind(UNNAMED)
    .fetch_all(pool)
    .await?;
    for generation in &mut generations {
        generation.wraps_max = WRAPS_MAX;
    }
    Ok(generations)
}
