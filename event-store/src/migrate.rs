//! Creates and upgrades the log's and the keys' schemas. Run by whoever sets an installation up, never by a service.

use sqlx::PgPool;

use crate::error::Error;

/// Brings a log database to this version. The number of partitions is decided once: a log that has another is refused.
pub async fn migrate_log(pool: &PgPool, partitions: i32) -> Result<(), Error> {
    sqlx::migrate!("migrations/log").run(pool).await.map_err(|error| Error::Schema(Box::new(error)))?;
    sqlx::query("select settle_partitions($1)").bind(partitions).execute(pool).await?;
    check_partitions(pool, partitions).await
}

/// Brings a key database to this version.
pub async fn migrate_keys(pool: &PgPool) -> Result<(), Error> {
    sqlx::migrate!("migrations/keys").run(pool).await.map_err(|error| Error::Schema(Box::new(error)))
}

/// The number of partitions that the log was created with.
pub(crate) async fn partitions(pool: &PgPool) -> Result<i32, Error> {
    Ok(sqlx::query_scalar("select partitions from settings").fetch_one(pool).await?)
}

async fn check_partitions(pool: &PgPool, expected: i32) -> Result<(), Error> {
    match partitions(pool).await? {
        found if found == expected => Ok(()),
        found => Err(Error::Partitions { expected, found }),
    }
}
