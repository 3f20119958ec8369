//! Another master key, or another version of it: generation keys and secrets are wrapped anew, in one transaction.

use serde::Serialize;
use sqlx::{PgPool, Postgres, Transaction};

use super::super::generations::generation_name;
use super::super::store::secret_name;
use super::super::wrap::KeyBytes;
use super::super::{MasterKey, Wrapped};
use crate::error::Error;

/// What a rotation of the master key did.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MasterRotation {
    /// Generation keys that are wrapped anew.
    pub generations: usize,
    /// Secrets that are wrapped anew.
    pub secrets: usize,
    /// What they are wrapped by now.
    pub wrapped_by: String,
}

/// Wraps everything that the master key wraps by `to` instead of `from`. They may be of different kinds, or the same
/// service whose key has a newer version by now.
///
/// Running processes hold unwrapped keys and notice nothing. One that starts needs the new master key from the moment
/// of the commit. What `to` wraps already is wrapped again, so a rotation may be repeated.
pub async fn master(pool: &PgPool, from: &MasterKey, to: &MasterKey) -> Result<MasterRotation, Error> {
    let mut transaction = pool.begin().await?;
    // Readers go on; a process that would add a row waits, and then finds what it needs.
    sqlx::query("lock table generations, secrets in share row exclusive mode").execute(&mut *transaction).await?;
    let mut rotated = MasterRotation::default();
    let generations: Vec<(i32, Vec<u8>, Option<String>)> =
        sqlx::query_as("select id, wrapped, master from generations").fetch_all(&mut *transaction).await?;
    for (id, old, by) in generations {
        let new = rewrap(from, to, &generation_name(id), &old, by.as_deref()).await?;
        let update = sqlx::query("update generations set wrapped = $2, master = $3 where id = $1").bind(id);
        store(update, &new, &mut transaction).await?;
        rotated.generations += 1;
        rotated.wrapped_by = new.by;
    }
    let secrets: Vec<(String, Vec<u8>, Option<String>)> =
        sqlx::query_as("select name, wrapped, master from secrets").fetch_all(&mut *transaction).await?;
    for (name, old, by) in secrets {
        let new = rewrap(from, to, &secret_name(&name), &old, by.as_deref()).await?;
        let update = sqlx::query("update secrets set wrapped = $2, master = $3 where name = $1").bind(name);
        store(update, &new, &mut transaction).await?;
        rotated.secrets += 1;
    }
    transaction.commit().await?;
    Ok(rotated)
}

async fn store(
    update: sqlx::query::Query<'_, Postgres, sqlx::postgres::PgArguments>,
    new: &Wrapped,
    transaction: &mut Transaction<'_, Postgres>,
) -> Result<(), sqlx::Error> {
    update.bind(new.bytes.clone()).bind(new.by.clone()).execute(&mut **transaction).await.map(drop)
}

async fn rewrap(from: &MasterKey, to: &MasterKey, name: &str, old: &[u8], by: Option<&str>) -> Result<Wrapped, Error> {
    let key = match from.unwrap(name, old, by).await {
        // A rotation that was interrupted after its commit has done this one.
        Err(wrong @ Error::WrongMasterKey { .. }) => to.unwrap(name, old, by).await.map_err(|_| wrong)?,
        key => key?,
    };
    proven(to, name, &key).await
}

/// Wraps, and proves that it can be undone before the old wrapping is given up.
async fn proven(to: &MasterKey, name: &str, key: &KeyBytes) -> Result<Wrapped, Error> {
    let new = to.wrap(name, key).await?;
    let again = to.unwrap(name, &new.bytes, Some(&new.by)).await?;
    if *again == **key { Ok(new) } else { Err(Error::WrongMasterKey { wrapped_by: new.by, place: to.place() }) }
}
