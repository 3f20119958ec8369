//! Carries out the orders of one reactor: lock what is due, send it, note what became of it, in one transaction.
//!
//! Any number of processes may do so: each skips what another has locked. A lock ends with its process, so nothing waits for
//! a lease after a crash. What is found due is looked for when a checkpoint has moved, and when the next order is due.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use metrics::{counter, histogram};
use serde_json::Value;
use sqlx::{FromRow, PgConnection, PgPool};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::door::{Door, Sent};

/// Orders that are locked and sent at a time.
const BATCH: i64 = 32;
/// Should a wake-up get lost, orders are looked for this often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Looks are at least so far apart where nothing was found: what is due may be locked by another process.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Wake-ups come by the hundred under load, and few of them mean an order; they are gathered for so long.
const GATHER: Duration = Duration::from_millis(20);
/// The wait after the first attempt that failed, in seconds; it doubles from there.
const RETRY_SECONDS: f64 = 0.25;
const RETRY_SECONDS_MAX: f64 = 60.0;
/// Further than this the wait doubles no more.
const DOUBLINGS_MAX: i32 = 8;
/// How long a database that is away is left alone.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// The orders of one reactor.
pub struct Dispatcher {
    pub name: &'static str,
    pub pool: PgPool,
    pub door: Arc<Door>,
    /// Something may be due.
    pub wake: Arc<Notify>,
}

#[derive(Debug, FromRow)]
struct Due {
    key: String,
    path: String,
    body: Value,
    attempts: i32,
    /// Seconds since it was due.
    late: f64,
}

/// What a look has found.
enum Found {
    /// There may be more.
    Some,
    /// Nothing; the next may be due in so long.
    Nothing(Duration),
}

impl Dispatcher {
    /// Carries out orders until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = match self.look().await {
                Ok(Found::Some) => continue,
                Ok(Found::Nothing(pause)) => pause,
                Err(error) => {
                    tracing::warn!(
                        reactor = self.name,
                        code = code(&error),
                        "orders can't be looked for; trying again"
                    );
                    stop.run_until_cancelled(tokio::time::sleep(DATABASE_PAUSE)).await;
                    continue;
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wake.notified() => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn look(&self) -> Result<Found, sqlx::Error> {
        let mut tx = self.pool.begin().await?;
        let Some(version) = active_version(&mut tx, self.name).await? else {
            return Ok(Found::Nothing(LOOK_AGAIN));
        };
        let schema = format!("{}_v{version}", self.name);
        supersede(&mut tx, self.name, version, &schema).await?;
        let due = lock_due(&mut tx, &schema).await?;
        if due.is_empty() {
            let next = next_due(&mut tx, &schema).await?;
            tx.commit().await?;
            return Ok(Found::Nothing(next));
        }
        let sent = join_all(due.iter().map(|order| self.door.send(&order.key, &order.path, &order.body))).await;
        settle(&mut tx, &schema, &due, &sent).await?;
        tx.commit().await?;
        due.iter().zip(&sent).for_each(|(order, sent)| self.tell(order, sent));
        Ok(Found::Some)
    }

    fn tell(&self, order: &Due, sent: &Sent) {
        let outcome = match sent {
            Sent::Done => {
                histogram!("reactor_order_seconds", "reactor" => self.name).record(order.late);
                "done"
            }
            Sent::Refused(problem) => {
                tracing::warn!(reactor = self.name, order = order.key, problem, "an order is refused for good");
                "refused"
            }
            Sent::Later(problem) => {
                tracing::warn!(reactor = self.name, order = order.key, problem, "an order is tried again later");
                "later"
            }
        };
        counter!("reactor_orders_total", "reactor" => self.name, "outcome" => outcome).increment(1);
    }
}

/// The version whose orders are carried out: the one that is served, and no other.
async fn active_version(tx: &mut PgConnection, name: &str) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar("select active_version from projection.versions where read_model = $1")
        .bind(name)
        .fetch_optional(tx)
        .await
}

/// Marks what the version before this one has ordered. If that one has not sent it yet, it stays: under the same key.
async fn supersede(tx: &mut PgConnection, name: &str, version: i32, schema: &str) -> Result<(), sqlx::Error> {
    let before: Option<i32> = sqlx::query_scalar(
        "select from_version from projection.switches where read_model = $1 and to_version = $2
         order by switched_at desc limit 1",
    )
    .bind(name)
    .bind(version)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(before) = before else { return Ok(()) };
    let before = format!("{name}_v{before}.orders");
    let is_there: bool =
        sqlx::query_scalar("select to_regclass($1) is not null").bind(&before).fetch_one(&mut *tx).await?;
    let unless_unsent = match is_there {
        true => format!("and not exists (select from {before} b where b.key = o.key and b.state = 'due')"),
        false => String::new(),
    };
    sqlx::query(&format!(
        "update {schema}.orders o set state = 'superseded'
         where state = 'due' {unless_unsent}
             and exists (select from projection.switches s
                 where s.read_model = $1 and s.to_version = $2 and s.partition = o.partition
                     and s.position >= o.position and s.switched_at >= o.due_at)"
    ))
    .bind(name)
    .bind(version)
    .execute(tx)
    .await?;
    Ok(())
}

/// Of one target, what was caused first comes first; what is not due yet holds up nothing.
const IS_FIRST: &str = "not exists (select from orders e
    where e.target = o.target and e.state = 'due' and e.due_at <= now() and e.position < o.position)";

async fn lock_due(tx: &mut PgConnection, schema: &str) -> Result<Vec<Due>, sqlx::Error> {
    sqlx::query(&format!("set local search_path = {schema}")).execute(&mut *tx).await?;
    sqlx::query_as(&format!(
        "select key, path, body, attempts, extract(epoch from clock_timestamp() - due_at)::float8 as late
         from orders o where state = 'due' and try_at <= now() and {IS_FIRST}
         order by try_at limit $1 for update skip locked"
    ))
    .bind(BATCH)
    .fetch_all(tx)
    .await
}

/// How long until an order is to be tried.
async fn next_due(tx: &mut PgConnection, schema: &str) -> Result<Duration, sqlx::Error> {
    let seconds: Option<f64> = sqlx::query_scalar(&format!(
        "select extract(epoch from min(try_at) - now())::float8 from {schema}.orders where state = 'due'"
    ))
    .fetch_one(tx)
    .await?;
    let until = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
    Ok(until.unwrap_or(LOOK_AGAIN).clamp(PAUSE_MIN, LOOK_AGAIN))
}

async fn settle(tx: &mut PgConnection, schema: &str, due: &[Due], sent: &[Sent]) -> Result<(), sqlx::Error> {
    let state = |sent: &Sent| match sent {
        Sent::Done => "done",
        Sent::Refused(_) => "refused",
        Sent::Later(_) => "due",
    };
    let problem = |sent: &Sent| match sent {
        Sent::Done => None,
        Sent::Refused(problem) | Sent::Later(problem) => Some(problem.clone()),
    };
    sqlx::query(&format!(
        "update {schema}.orders o
         set state = new.state, problem = new.problem, attempts = o.attempts + 1,
             try_at = clock_timestamp() + new.pause * interval '1 second'
         from unnest($1::text[], $2::text[], $3::text[], $4::float8[]) as new (key, state, problem, pause)
         where o.key = new.key"
    ))
    .bind(due.iter().map(|order| order.key.as_str()).collect::<Vec<_>>())
    .bind(sent.iter().map(state).collect::<Vec<_>>())
    .bind(sent.iter().map(problem).collect::<Vec<_>>())
    .bind(due.iter().map(|order| retry_seconds(order.attempts)).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// How long to wait after so many attempts and one more.
fn retry_seconds(attempts: i32) -> f64 {
    (RETRY_SECONDS * 2_f64.powi(attempts.clamp(0, DOUBLINGS_MAX))).min(RETRY_SECONDS_MAX)
}

/// The database's own code; its messages may quote values.
fn code(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(|error| error.code()).map_or_else(|| "away".to_owned(), |code| code.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_minute() {
        assert_eq!([0, 1, 2, 8, 1_000].map(retry_seconds), [0.25, 0.5, 1.0, 60.0, 60.0]);
    }
}
