//! Which versions of a read model there are, and which one is served.
//!
//! A version is one fill of a read model's tables, in a schema of its own. Its fold is the version of the program's code
//! that makes the rows ([`ReadModel::version`]): two versions of one fold have the same rows, two of different folds need
//! not have the same columns.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgPool};

use super::checkpoint::Name;
use crate::read_model::ReadModel;

/// Readers listen on it: another version is served now. It carries no payload, they read which.
pub(crate) const CHANNEL: &str = "projection_versions";

/// A version of a read model.
#[derive(Clone, Debug, PartialEq, Eq, FromRow, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    pub read_model: String,
    pub version: i32,
    /// Which code makes its rows.
    pub fold: i32,
    /// Whether it is the one that is served.
    pub active: bool,
    pub made_at: DateTime<Utc>,
    /// Since when it is served, or first was; nothing while it is being filled.
    pub served_at: Option<DateTime<Utc>>,
}

const VERSIONS: &str = "
    select read_model, version, fold, version = active_version as active, made_at, served_at
    from projection.schemas join projection.versions using (read_model)";

/// Every version of every read model.
pub async fn all(pool: &PgPool) -> Result<Vec<Version>, sqlx::Error> {
    sqlx::query_as(&format!("{VERSIONS} order by read_model, version")).fetch_all(pool).await
}

/// The versions of one read model, oldest first.
pub async fn of(on: &mut PgConnection, read_model: &str) -> Result<Vec<Version>, sqlx::Error> {
    sqlx::query_as(&format!("{VERSIONS} where read_model = $1 order by version")).bind(read_model).fetch_all(on).await
}

/// The version that is served, if this program's fold has made it.
pub(crate) async fn served(pool: &PgPool, model: &dyn ReadModel) -> Result<Option<Name<'static>>, sqlx::Error> {
    let version: Option<i32> = sqlx::query_scalar(&format!(
        "select version from ({VERSIONS}) as versions where active and read_model = $1 and fold = $2"
    ))
    .bind(model.name())
    .bind(model.version())
    .fetch_optional(pool)
    .await?;
    Ok(version.map(|version| Name { read_model: model.name(), version }))
}

/// The versions that were served once and are kept, as far as this program's fold has made them.
pub(crate) async fn kept(on: &mut PgConnection, model: &dyn ReadModel) -> Result<Vec<Name<'static>>, sqlx::Error> {
    let versions: Vec<i32> = sqlx::query_scalar(&format!(
        "select version from ({VERSIONS}) as versions
         where not active and served_at is not null and read_model = $1 and fold = $2"
    ))
    .bind(model.name())
    .bind(model.version())
    .fetch_all(on)
    .await?;
    Ok(versions.into_iter().map(|version| Name { read_model: model.name(), version }).collect())
}

/// The version of a read model that an operator's command is about: the served one.
pub async fn active(on: &mut PgConnection, read_model: &str) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar("select active_version from projection.versions where read_model = $1")
        .bind(read_model)
        .fetch_optional(on)
        .await
}
