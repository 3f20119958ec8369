//! Creates the read database's schemas. Run by whoever sets an installation up, never by a service.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, PgPool};

use super::versions;
use crate::read_model::{ReadModel, schema_of};

/// One migration at a time per database; any number will do that nobody else uses.
const LOCK: i64 = 0x6e65_7875_735f_7264;

/// Why a read database could not be brought to this version.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("the read database refused or did not answer")]
    Database(#[from] sqlx::Error),
    #[error("the engine's tables could not be migrated")]
    Engine(#[from] sqlx::migrate::MigrateError),
    /// Rows made by another DDL would be mixed with rows made by this one.
    #[error("the tables of {0} changed without a new version of the read model")]
    Changed(String),
}

/// The engine's tables and every registered read model's.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    migrate_models(pool, &crate::registry::all_read_models()).await
}

/// The engine's tables and the given read models'. May be called again, and by several at once.
pub async fn migrate_models(pool: &PgPool, models: &[Arc<dyn ReadModel>]) -> Result<(), MigrateError> {
    sqlx::migrate!("./migrations").run(pool).await?;
    let mut connection = pool.acquire().await?;
    for model in models {
        migrate_one(&mut connection, model.as_ref()).await?;
    }
    sqlx::raw_sql(GRANTS).execute(&mut *connection).await?;
    Ok(())
}

/// One read model, all or nothing.
async fn migrate_one(connection: &mut PgConnection, model: &dyn ReadModel) -> Result<(), MigrateError> {
    let mut tx = connection.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await?;
    let known: Vec<String> =
        sqlx::query_scalar("select ddl from projection.schemas where read_model = $1 and fold = $2")
            .bind(model.name())
            .bind(model.version())
            .fetch_all(&mut *tx)
            .await?;
    let hash = ddl_hash(model);
    if known.iter().any(|known| *known != hash) {
        return Err(MigrateError::Changed(format!("{}, version {}", model.name(), model.version())));
    }
    if known.is_empty() {
        make_version(&mut tx, model).await?;
    }
    if let Some(active) = versions::active(&mut tx, model.name()).await? {
        publish(&mut tx, model, active).await?;
    }
    tx.commit().await?;
    Ok(())
}

fn ddl_hash(model: &dyn ReadModel) -> String {
    hex::encode(Sha256::digest(model.schema_sql()))
}

/// The tables of the next version, empty. The first version of a read model is served at once, later ones when they are
/// switched to.
pub(crate) async fn make_version(tx: &mut PgConnection, model: &dyn ReadModel) -> Result<i32, sqlx::Error> {
    let version: i32 = sqlx::query_scalar(
        "select greatest(coalesce(max(version) + 1, $2), $2) from projection.schemas where read_model = $1",
    )
    .bind(model.name())
    .bind(model.version())
    .fetch_one(&mut *tx)
    .await?;
    let schema = schema_of(model.name(), version);
    sqlx::raw_sql(&format!("create schema {schema}; set local search_path = {schema}, public"))
        .execute(&mut *tx)
        .await?;
    sqlx::raw_sql(model.schema_sql()).execute(&mut *tx).await?;
    let first = sqlx::query(
        "insert into projection.versions (read_model, active_version, log) values ($1, $2, $3) on conflict do nothing",
    )
    .bind(model.name())
    .bind(version)
    .bind(model.log().as_str())
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "insert into projection.schemas (read_model, version, fold, ddl, served_at)
         values ($1, $2, $3, $4, case when $5 then now() end)",
    )
    .bind(model.name())
    .bind(version)
    .bind(model.version())
    .bind(ddl_hash(model))
    .bind(first.rows_affected() > 0)
    .execute(&mut *tx)
    .await?;
    sqlx::raw_sql(&grants_of(&schema)).execute(&mut *tx).await?;
    if model.gives_orders() {
        sqlx::raw_sql(&reactor_grants_of(&schema)).execute(&mut *tx).await?;
    }
    sqlx::raw_sql("set local search_path to default").execute(&mut *tx).await?;
    Ok(version)
}

/// Points what analysts name at the tables of a version.
pub(crate) async fn publish(tx: &mut PgConnection, model: &dyn ReadModel, version: i32) -> Result<(), sqlx::Error> {
    let (name, schema) = (model.name(), schema_of(model.name(), version));
    for view in model.published() {
        sqlx::raw_sql(&format!(
            "create schema if not exists {name};
             grant usage on schema {name} to nexus_analyst;
             drop view if exists {name}.{view};
             create view {name}.{view} as select * from {schema}.{view};
             grant select on {name}.{view} to nexus_analyst"
        ))
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

fn grants_of(schema: &str) -> String {
    format!(
        "grant usage on schema {schema} to nexus_projector, nexus_query;
         grant select, insert, update, delete, truncate on all tables in schema {schema} to nexus_projector;
         grant usage on all sequences in schema {schema} to nexus_projector;
         grant select on all tables in schema {schema} to nexus_query;"
    )
}

/// Who carries orders out reads them and notes what became of them. The rest of the schema is none of its business.
fn reactor_grants_of(schema: &str) -> String {
    format!(
        "grant usage on schema {schema} to nexus_reactor;
         grant select, update (state, attempts, try_at, problem) on {schema}.orders to nexus_reactor;"
    )
}

const GRANTS: &str = "
    grant usage on schema projection to nexus_projector, nexus_query;
    grant select, insert, update, delete on projection.checkpoints, projection.parked, projection.heads
        to nexus_projector;
    grant select, insert, update on projection.forgotten to nexus_projector;
    grant select on projection.versions, projection.schemas to nexus_projector;
    grant select on all tables in schema projection to nexus_query;
    grant usage on schema projection to nexus_reactor;
    grant select on projection.versions, projection.switches to nexus_reactor;
";
