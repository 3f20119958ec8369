//! The same for one subject: its rows are made anew from its events, in one transaction that holds its partition.

use std::sync::Arc;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::compare::{Side, TableComparison, compare_table, schema};
use super::{Rebuild, RebuildError};
use crate::engine::apply;
use crate::engine::checkpoint::Name;
use crate::engine::fault::{Fault, Reason};
use crate::engine::hashes::{columns, row_hash};
use crate::engine::open;
use crate::engine::parked;
use crate::engine::versions;

/// Events that are opened at a time.
const CHUNK: i64 = 500;

/// What became of a subject's rows.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OneSubject {
    pub subject: Uuid,
    pub version: i32,
    /// Events applied anew.
    pub events: u64,
    /// Events of the subject that were parked, and are no longer.
    pub unparked: i64,
    /// The subject's rows before (`only_served`) and after (`only_new`), by table; tables without any are left out.
    pub tables: Vec<TableComparison>,
}

impl OneSubject {
    /// Whether the rows were as they should be.
    pub fn is_equal(&self) -> bool {
        self.tables.iter().all(|it| it.only_served == 0 && it.only_new == 0)
    }
}

impl Rebuild {
    /// Makes the rows of a subject anew in the version that is served. Where it is only to be `checked`, the
    /// transaction is undone.
    pub async fn subject(&self, subject: Uuid, checked: bool) -> Result<OneSubject, RebuildError> {
        let model = self.fold.model.as_ref();
        let served = versions::served(&self.pool, model).await?;
        let name = served.ok_or_else(|| RebuildError::NotThere(model.name().to_owned()))?;
        let mut before = self.pool.acquire().await?;
        let mut session = PgConnection::connect_with(&self.database).await?;
        let mut tx = session.begin().await?;
        apply::turn_to(&mut tx, name).await?;
        let mut done = OneSubject { subject, version: name.version, events: 0, unparked: 0, tables: Vec::new() };
        if let Some((partition, position)) = self.hold(&mut tx, name, subject).await? {
            done.unparked = parked::remove_subject(&mut tx, name, partition, subject).await?;
            self.forget(&mut tx, subject).await?;
            done.events = self.replay(&mut tx, subject, position).await?;
            done.tables = changed(&mut before, &mut tx, name).await?;
        }
        if checked {
            tx.rollback().await?
        } else {
            tx.commit().await?
        }
        Ok(done)
    }

    /// Holds the partition of a subject and answers where it stands; nothing if the log knows no such subject, or the
    /// partition has not been read yet.
    async fn hold(
        &self,
        tx: &mut PgConnection,
        name: Name<'_>,
        subject: Uuid,
    ) -> Result<Option<(i32, i64)>, RebuildError> {
        let first = self.log.of_subject(subject, 0, i64::MAX, 1).await?;
        let Some(partition) = first.first().map(|event| event.partition) else { return Ok(None) };
        let position: Option<i64> = sqlx::query_scalar(
            "select position from projection.checkpoints where read_model = $1 and version = $2 and partition = $3
             for update",
        )
        .bind(name.read_model)
        .bind(name.version)
        .bind(partition)
        .fetch_optional(tx)
        .await?;
        Ok(position.map(|position| (partition, position)))
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid) -> Result<(), RebuildError> {
        apply::forget(&self.fold, tx, subject).await.map(drop).map_err(fails)
    }

    async fn replay(&self, tx: &mut PgConnection, subject: Uuid, until: i64) -> Result<u64, RebuildError> {
        let (mut after, mut applied) = (0, 0);
        loop {
            let sealed: Arc<[_]> = self.log.of_subject(subject, after, until, CHUNK).await?.into();
            let Some(last) = sealed.last() else { return Ok(applied) };
            after = last.position;
            let opened = open::open(&self.fold, &sealed).await.map_err(fails)?;
            if let Some(unreadable) = opened.unreadable.first() {
                return Err(fails(Fault::Lasting(Reason::unreadable(unreadable.reason))));
            }
            // Of an erased subject nothing opens, and nothing is left.
            apply::apply(&self.fold, tx, &opened.events).await.map_err(fails)?;
            applied += opened.events.len() as u64;
        }
    }
}

fn fails(fault: Fault) -> RebuildError {
    RebuildError::Event(fault.code().to_owned())
}

/// What the transaction has removed, as others still see it, beside what it has put there.
async fn changed(
    before: &mut PgConnection,
    tx: &mut PgConnection,
    name: Name<'static>,
) -> Result<Vec<TableComparison>, RebuildError> {
    let id: String = sqlx::query_scalar("select pg_current_xact_id()::xid::text").fetch_one(&mut *tx).await?;
    let mut tables = Vec::new();
    for (table, columns) in columns(&mut *tx, &schema(name)).await? {
        let hash = row_hash(columns.iter().map(|column| format!("\"{column}\"")));
        let mut sides = [
            Side { name, on: &mut *before, rows: format!("xmax = '{id}'::xid") },
            Side { name, on: &mut *tx, rows: format!("xmin = '{id}'::xid") },
        ];
        let mut compared = TableComparison { table, ..TableComparison::default() };
        compare_table(&mut sides, &hash, &mut compared).await?;
        if compared.same + compared.only_served + compared.only_new > 0 {
            tables.push(compared);
        }
    }
    Ok(tables)
}
