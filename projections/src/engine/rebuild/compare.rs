//! Step 2: the served version and the new one, row by row, at one position.
//!
//! The served one is seen in a snapshot, so it moves on meanwhile; the new one is brought exactly to the snapshot's
//! position. Both are read as hashes of their rows, in the order of the hashes, side by side: nothing is held in memory,
//! and no value leaves the database but the keys of the rows that differ.

use std::collections::{BTreeMap, BTreeSet};

use futures::{Stream, TryStreamExt};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use super::fill::positions;
use super::{RebuildError, Running};
use crate::engine::checkpoint::Name;
use crate::engine::hashes::{Columns, columns, primary_key, row_hash};
use crate::engine::parked::{ParkedSubject, list};
use crate::read_model::schema_of;

/// Of each table and each version, so many rows are named that the other does not have; and so many subjects that are parked.
const NAMED_MAX: usize = 20;

/// Two versions of a read model at one position.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    pub served_version: i32,
    pub version: i32,
    /// How many events both have seen.
    pub events: i64,
    /// How many of them are parked in each: what would stand still after the switch.
    pub parked_served: i64,
    pub parked_new: i64,
    /// Some of the subjects that are parked in the new one, and why.
    pub parked: Vec<ParkedSubject>,
    pub tables: Vec<TableComparison>,
}

/// A table in both versions. Sealed columns are left out: two seals of the same are different.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableComparison {
    pub table: String,
    /// Rows that both have.
    pub same: i64,
    pub only_served: i64,
    pub only_new: i64,
    /// Columns that only one of them has, and that were not compared.
    pub columns_apart: Vec<String>,
    /// Some of the rows that differ, by their keys.
    pub differences: Vec<Difference>,
}

/// A row that one version has and the other has not, or not like this.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The version that has it.
    pub version: i32,
    /// Its primary key: ids and codes, as they stand in the table.
    pub key: serde_json::Value,
}

impl Comparison {
    /// Whether every row of one is in the other, and the new one has no more parked.
    pub fn is_equal(&self) -> bool {
        self.parked_new <= self.parked_served
            && self.tables.iter().all(|it| it.only_served == 0 && it.only_new == 0 && it.columns_apart.is_empty())
    }
}

impl Running<'_> {
    /// Compares, and brings the new version to where the served one was when that began.
    pub async fn compare(&self, stop: &CancellationToken) -> Result<Comparison, RebuildError> {
        let options = self.rebuild.pool.connect_options();
        let mut snapshot = PgConnection::connect_with(&options).await?;
        let mut snapshot = snapshot.begin_with("begin transaction isolation level repeatable read read only").await?;
        let until = positions(&mut *snapshot, self.served).await?;
        let parked_served = parked_events(&mut snapshot, self.served).await?;
        self.lanes(stop).await?.fill_until(self, &until, stop).await?;
        let side = PgPoolOptions::new().max_connections(1).connect_with((*options).clone()).await?;
        let mut new = side.acquire().await?;
        let (old_columns, new_columns) = (
            columns(&mut *snapshot, &schema(self.served)).await?,
            columns(&mut *new, &schema(self.target.name)).await?,
        );
        let mut tables = Vec::new();
        for table in old_columns.keys().chain(new_columns.keys()).collect::<BTreeSet<_>>() {
            let none = BTreeSet::new();
            let of = |columns: &'_ Columns| columns.get(table).unwrap_or(&none).clone();
            let (of_old, of_new) = (of(&old_columns), of(&new_columns));
            let both: Vec<&String> = of_old.intersection(&of_new).collect();
            let mut compared = TableComparison {
                table: table.clone(),
                columns_apart: of_old.symmetric_difference(&of_new).cloned().collect(),
                ..TableComparison::default()
            };
            if !both.is_empty() {
                let hash = row_hash(both.into_iter().map(|column| format!("\"{column}\"")));
                let mut sides = [
                    Side { name: self.served, on: &mut snapshot, rows: "true".to_owned() },
                    Side { name: self.target.name, on: &mut new, rows: "true".to_owned() },
                ];
                compare_table(&mut sides, &hash, &mut compared).await?;
            }
            tables.push(compared);
        }
        snapshot.rollback().await?;
        let parked_new = parked_events(&mut new, self.target.name).await?;
        let parked = list(&self.rebuild.pool, self.target.name, NAMED_MAX as i64).await?;
        let (served_version, version, events) = (self.served.version, self.version(), until.values().sum());
        Ok(Comparison { served_version, version, events, parked_served, parked_new, parked, tables })
    }
}

async fn parked_events(on: &mut PgConnection, name: Name<'_>) -> Result<i64, sqlx::Error> {
    let parked = sqlx::query_scalar(
        "select coalesce(sum(parked), 0)::bigint from projection.checkpoints where read_model = $1 and version = $2",
    );
    parked.bind(name.read_model).bind(name.version).fetch_one(on).await
}

/// One of the two sets of rows that are compared.
pub(super) struct Side<'a> {
    pub(super) name: Name<'static>,
    pub(super) on: &'a mut PgConnection,
    /// An SQL condition for the rows that count.
    pub(super) rows: String,
}

impl Side<'_> {
    fn table(&self, table: &str) -> String {
        format!("(select * from \"{}\".\"{table}\" where {}) as counted", schema(self.name), self.rows)
    }
}

pub(super) fn schema(name: Name<'_>) -> String {
    schema_of(name.read_model, name.version)
}

/// A hash, and how many rows have it.
type Counted = (String, i64);

pub(super) async fn compare_table(
    sides: &mut [Side<'_>; 2],
    hash: &str,
    compared: &mut TableComparison,
) -> Result<(), sqlx::Error> {
    let table = compared.table.clone();
    let hashes = |side: &Side<'_>| {
        format!("select {hash} collate \"C\" as hash, count(*) from {} group by 1 order by 1", side.table(&table))
    };
    let [old, new] = sides;
    let (of_old, of_new) = (hashes(old), hashes(new));
    let only =
        merge(sqlx::query_as(&of_old).fetch(&mut *old.on), sqlx::query_as(&of_new).fetch(&mut *new.on), compared)
            .await?;
    for (side, only) in sides.iter_mut().zip(only) {
        if only.is_empty() {
            continue;
        }
        let (name, from) = (side.name, side.table(&table));
        let key = primary_key(&mut *side.on, &schema(name), &table).await?;
        let pairs: Vec<String> = key.iter().map(|column| format!("'{column}', \"{column}\"")).collect();
        let keys: Vec<serde_json::Value> = sqlx::query_scalar(&format!(
            "select jsonb_build_object({}) from {from} where {hash} = any ($1) order by 1 limit {NAMED_MAX}",
            pairs.join(", ")
        ))
        .bind(only)
        .fetch_all(&mut *side.on)
        .await?;
        compared.differences.extend(keys.into_iter().map(|key| Difference { version: name.version, key }));
    }
    Ok(())
}

/// Counts what both have and what one has, and answers some of the latter, first of the old and then of the new.
async fn merge(
    mut old: impl Stream<Item = Result<Counted, sqlx::Error>> + Unpin,
    mut new: impl Stream<Item = Result<Counted, sqlx::Error>> + Unpin,
    compared: &mut TableComparison,
) -> Result<[Vec<String>; 2], sqlx::Error> {
    let mut only = BTreeMap::<bool, Vec<String>>::new();
    let (mut left, mut right) = (old.try_next().await?, new.try_next().await?);
    loop {
        let (hash, in_old, in_new) = match (&left, &right) {
            (None, None) => break,
            (Some((hash, count)), None) => (hash.clone(), *count, 0),
            (None, Some((hash, count))) => (hash.clone(), 0, *count),
            (Some((of_old, count)), Some((of_new, _))) if of_old < of_new => (of_old.clone(), *count, 0),
            (Some((of_old, _)), Some((of_new, count))) if of_old > of_new => (of_new.clone(), 0, *count),
            (Some((hash, in_old)), Some((_, in_new))) => (hash.clone(), *in_old, *in_new),
        };
        compared.same += in_old.min(in_new);
        compared.only_served += (in_old - in_new).max(0);
        compared.only_new += (in_new - in_old).max(0);
        if in_old != in_new {
            let named = only.entry(in_new > in_old).or_default();
            if named.len() < NAMED_MAX {
                named.push(hash);
            }
        }
        if in_old > 0 {
            left = old.try_next().await?;
        }
        if in_new > 0 {
            right = new.try_next().await?;
        }
    }
    Ok([only.remove(&false).unwrap_or_default(), only.remove(&true).unwrap_or_default()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_stand_still_after_the_switch_is_a_difference() {
        let comparison = |parked_served, parked_new| Comparison {
            served_version: 1,
            version: 2,
            events: 10,
            parked_served,
            parked_new,
            parked: Vec::new(),
            tables: vec![TableComparison { same: 3, ..TableComparison::default() }],
        };
        assert!(comparison(0, 0).is_equal() && comparison(2, 2).is_equal() && comparison(2, 1).is_equal());
        assert!(!comparison(0, 1).is_equal() && !comparison(2, 3).is_equal());
    }
}
