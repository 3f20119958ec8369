//! Forgets old idempotency answers. It lives in the relay because a relay always runs, and needs no key to do it.

use std::time::Duration;

use sqlx::PgPool;

const SWEEP_EVERY: Duration = Duration::from_secs(3_600);
/// How long a retry is recognised.
const KEEP: &str = "30 days";
const BATCH_ROWS_MAX: i32 = 1_000;
/// Between batches the disk belongs to others.
const BATCH_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(pool: PgPool) {
    let mut due = tokio::time::interval(SWEEP_EVERY);
    loop {
        due.tick().await;
        if let Err(error) = sweep(&pool).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "old idempotency keys were not removed");
        }
    }
}

async fn sweep(pool: &PgPool) -> Result<(), sqlx::Error> {
    loop {
        let swept: i32 = sqlx::query_scalar("select sweep_idempotency($1::interval, $2)")
            .bind(KEEP)
            .bind(BATCH_ROWS_MAX)
            .fetch_one(pool)
            .await?;
        if swept < BATCH_ROWS_MAX {
            return Ok(());
        }
        tokio::time::sleep(BATCH_PAUSE).await;
    }
}
