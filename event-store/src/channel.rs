//! Wake-up channels of one log. Channels belong to a database; a database may hold two logs, each in a schema of its own,
//! and neither's work is to wake the other.

use sqlx::PgPool;
use sqlx::postgres::PgListener;

/// What follows a channel's name in this schema: nothing in the ordinary one.
pub(crate) const SUFFIX: &str = "case current_schema() when 'public' then '' else '_' || current_schema() end";

/// Wakes the listeners of this log's channel.
pub(crate) async fn notify(pool: &PgPool, channel: &str) -> Result<(), sqlx::Error> {
    sqlx::query(&format!("select pg_notify($1::text || {SUFFIX}, '')")).bind(channel).execute(pool).await.map(drop)
}

/// The name that a channel has in this log.
pub(crate) async fn name_of(pool: &PgPool, channel: &str) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(&format!("select $1::text || {SUFFIX}")).bind(channel).fetch_one(pool).await
}

/// Listens on these channels of this log.
pub(crate) async fn listen(listener: &mut PgListener, pool: &PgPool, channels: &[&str]) -> Result<(), sqlx::Error> {
    for channel in channels {
        listener.listen(&name_of(pool, channel).await?).await?;
    }
    Ok(())
}
