//! Claims of events that came back from Kafka after the store had lost its tail.
//!
//! The relay that brings events back can't read them, and their records say nothing about claims. So the process that
//! holds the keys works the claims out again before it accepts anything, by rules that whoever knows the payloads gives.

use std::collections::{BTreeSet, HashMap};

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Claim, claim_hash};
use crate::error::{Error, KeyError};
use crate::event::{SealedEvent, StoredEvent};
use crate::keyring::Keyring;
use crate::load;

/// How many positions are dealt with at a time.
const POSITIONS_MAX: i64 = 1_000;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the streams of a log claim.
#[derive(Clone, Copy)]
pub struct ClaimRules {
    /// The aggregate types whose streams claim anything.
    pub aggregate_types: &'static [&'static str],
    /// What a stream of such a type has claimed by its events, first to last.
    pub claimed: fn(&str, Vec<StoredEvent>) -> Result<Claimed, BoxError>,
}

impl ClaimRules {
    /// Of a log whose streams claim nothing.
    pub const NONE: Self = Self { aggregate_types: &[], claimed: |_, _| Ok(Claimed::default()) };
}

/// The claims of one stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    pub held: Vec<Claim>,
    pub given_up: Vec<Claim>,
}

/// Works out the claims of everything that was restored. Each process may do this, at any time while nothing is
/// accepted: what a stream holds at its end does not depend on who looks, nor on the order of streams.
pub(super) async fn settle_claims(
    connection: &mut PgConnection,
    keyring: &Keyring,
    rules: &ClaimRules,
) -> Result<(), Error> {
    let next = "select partition, from_position, to_position from restored order by partition limit 1";
    while let Some((partition, from, to)) =
        sqlx::query_as::<_, (i32, i64, i64)>(next).fetch_optional(&mut *connection).await?
    {
        let until = to.min(from + POSITIONS_MAX - 1);
        let changes = changes(connection, keyring, rules, (partition, from, until)).await?;
        changes.store(connection, (partition, from, until)).await?;
        tracing::warn!(partition, from, until, "the claims of restored events are settled");
    }
    Ok(())
}

/// What is to be changed, as the parameters of `settle_claims` in the log.
#[derive(Default)]
struct ClaimChanges {
    taken: Vec<[u8; 32]>,
    kinds: Vec<String>,
    taken_by: Vec<(String, Uuid)>,
    released: Vec<[u8; 32]>,
    released_by: Vec<(String, Uuid)>,
}

async fn changes(
    connection: &mut PgConnection,
    keyring: &Keyring,
    rules: &ClaimRules,
    (partition, from, until): (i32, i64, i64),
) -> Result<ClaimChanges, Error> {
    // Nor need whoever writes such a log be able to read it.
    if rules.aggregate_types.is_empty() {
        return Ok(ClaimChanges::default());
    }
    let touched: Vec<(String, Uuid)> = sqlx::query_as(
        "select distinct aggregate_type, aggregate_id::uuid from events
         where partition = $1 and position between $2 and $3 and aggregate_type = any ($4)",
    )
    .bind(partition)
    .bind(from)
    .bind(until)
    .bind(rules.aggregate_types)
    .fetch_all(&mut *connection)
    .await?;
    let events = load::streams(&mut *connection, &touched).await?;
    // One round trip for all keys; opening a stream then finds them in memory.
    let subjects = BTreeSet::from_iter(events.iter().map(|event| event.header.subject));
    drop(keyring.keys(&Vec::from_iter(subjects)).await);
    let mut streams = HashMap::<_, Vec<SealedEvent>>::new();
    for event in events {
        let stream = (event.header.aggregate_type.clone(), event.header.aggregate_id);
        streams.entry(stream).or_default().push(event);
    }
    let mut changes = ClaimChanges::default();
    for (stream, events) in streams {
        match load::open_all(keyring, events).await {
            Ok(events) => {
                changes.add(keyring, &stream, (rules.claimed)(&stream.0, events).map_err(Error::Schema)?);
            }
            // Nobody can tell what it claimed, so nobody else may have it.
            Err(Error::Key { subject, source: KeyError::Erased }) => {
                tracing::warn!(%subject, "the claims of an erased subject stay as they are");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(changes)
}

impl ClaimChanges {
    fn add(&mut self, keyring: &Keyring, holder: &(String, Uuid), claimed: Claimed) {
        for claim in claimed.held {
            self.taken.push(claim_hash(keyring, &claim));
            self.kinds.push(claim.kind);
            self.taken_by.push(holder.clone());
        }
        for claim in claimed.given_up {
            self.released.push(claim_hash(keyring, &claim));
            self.released_by.push(holder.clone());
        }
    }

    /// Stores them, unless another process has dealt with these positions meanwhile.
    async fn store(self, connection: &mut PgConnection, positions: (i32, i64, i64)) -> Result<(), sqlx::Error> {
        let hashes = |hashes: Vec<[u8; 32]>| hashes.into_iter().map(Vec::from).collect::<Vec<_>>();
        let (taken_by_types, taken_by_ids): (Vec<_>, Vec<_>) = self.taken_by.into_iter().unzip();
        let (released_by_types, released_by_ids): (Vec<_>, Vec<_>) = self.released_by.into_iter().unzip();
        sqlx::query("select settle_claims($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
            .bind(positions.0)
            .bind(positions.1)
            .bind(positions.2)
            .bind(hashes(self.taken))
            .bind(self.kinds)
            .bind(taken_by_types)
            .bind(taken_by_ids)
            .bind(hashes(self.released))
            .bind(released_by_types)
            .bind(released_by_ids)
            .execute(connection)
            .await?;
        Ok(())
    }
}
