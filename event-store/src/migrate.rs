//! Creates and upgrades the log's and the keys' schemas. Run by whoever sets an installation up, never by a service.

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::error::Error;

/// Brings a log database to this version. The number of partitions is decided once: a log that has another is refused.
pub async fn migrate_log(pool: &PgPool, partitions: i32) -> Result<(), Error> {
    sqlx::migrate!("migrations/log").run(pool).await.map_err(|error| Error::Schema(Box::new(error)))?;
    sqlx::query("select settle_partitions($1)").bind(partitions).execute(pool).await?;
    check_partitions(pool, partitions).await
}

/// The schema of the access log, beside the events in the log's database.
pub const ACCESS_SCHEMA: &str = "access";

/// Brings the access log to this version: the same log a second time, in a schema of its own, and with other grants
/// (who may write it can't read it).
pub async fn migrate_access_log(pool: &PgPool, partitions: i32) -> Result<(), Error> {
    sqlx::query(&format!("create schema if not exists {ACCESS_SCHEMA}")).execute(pool).await?;
    let within = in_schema((*pool.connect_options()).clone(), ACCESS_SCHEMA);
    let within = PgPoolOptions::new().max_connections(1).connect_with(within).await?;
    migrate_log(&within, partitions).await?;
    sqlx::raw_sql(include_str!("../migrations/access_log.sql")).execute(&within).await?;
    within.close().await;
    Ok(())
}

/// Connections that see one schema only: to them, its log is the log.
pub fn in_schema(options: PgConnectOptions, schema: &str) -> PgConnectOptions {
    options.options([("search_path", schema)])
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
