//! How often each data key has sealed. AES-GCM with random nonces is safe for 2^32 seals under one key, no more.
//!
//! Counted by sampling: a seal whose nonce starts with [`SAMPLE_BITS`] zero bits stands for as many seals as make one such
//! nonce on average. A count of every seal would cost a write per event; this one costs a write in a thousand, loses
//! nothing when a key leaves the cache, and is right to a few thousandths where limits are (docs/adr/0009).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::PgPool;
use uuid::Uuid;

/// One seal in 2^10 is written down.
const SAMPLE_BITS: u32 = 10;
/// What one written seal stands for.
const SEALS_PER_SAMPLE: i64 = 1 << SAMPLE_BITS;

/// A key that has sealed so often is replaced before the next append of its subject: half of what is safe.
pub(super) const SEALS_MAX: i64 = 1 << 31;

/// What was counted and not yet stored. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Uses(Arc<Mutex<HashMap<Uuid, i64>>>);

impl Uses {
    pub(super) fn count(&self, key_id: Uuid, nonce: &[u8]) {
        if is_sample(nonce) {
            self.add(&[key_id], &[SEALS_PER_SAMPLE]);
        }
    }

    /// Stores what was counted since the last time. What can't be stored is kept for the next.
    pub(super) async fn store(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let counted = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if counted.is_empty() {
            return Ok(());
        }
        // Sorted, so that two processes that store at the same time don't wait for each other in a circle.
        let counted: std::collections::BTreeMap<_, _> = counted.into_iter().collect();
        let (keys, seals): (Vec<_>, Vec<_>) = counted.into_iter().unzip();
        match write(pool, &keys, &seals).await {
            Ok(totals) => {
                totals.iter().filter(|(_, seals)| *seals >= SEALS_MAX).for_each(|(key_id, seals)| {
                    tracing::warn!(key.id = %key_id, seals, "a data key has sealed so often that it should be rotated");
                });
                Ok(())
            }
            Err(error) => {
                self.add(&keys, &seals);
                Err(error)
            }
        }
    }

    fn add(&self, keys: &[Uuid], seals: &[i64]) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, seals) in keys.iter().zip(seals) {
            *counted.entry(*key).or_default() += seals;
        }
    }
}

async fn write(pool: &PgPool, keys: &[Uuid], seals: &[i64]) -> Result<Vec<(Uuid, i64)>, sqlx::Error> {
    sqlx::query_as(
        "insert into key_uses as known (key_id, seals) select * from unnest($1::uuid[], $2::bigint[])
         on conflict (key_id) do update set seals = known.seals + excluded.seals
         returning key_id, seals",
    )
    .bind(keys)
    .bind(seals)
    .fetch_all(pool)
    .await
}

fn is_sample(nonce: &[u8]) -> bool {
    let head = nonce.iter().take(4).fold(0_u32, |head, byte| head << 8 | u32::from(*byte));
    head >> (u32::BITS - SAMPLE_BITS) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_nonce_in_a_thousand_is_a_sample() {
        let uses = Uses::default();
        let key = Uuid::new_v4();
        for number in 0..=u32::from(u16::MAX) {
            uses.count(key, &(number << 16).to_be_bytes());
        }
        assert_eq!(uses.0.lock().unwrap()[&key], 65_536, "over all nonces, the count is exact");
    }
}
