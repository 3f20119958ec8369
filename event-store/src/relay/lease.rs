//! Which partitions this relay may publish: leases with epochs, shared fairly among the relays that are alive.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

/// Relays tell each other on this channel that partitions have become free or that one of them is new.
pub(super) const RELAYS_CHANNEL: &str = "nexus_relays";

pub(super) struct Leases {
    pool: PgPool,
    owner: Uuid,
    lease: PgInterval,
}

/// What the store says at a heartbeat.
pub(super) struct View {
    /// Partition and epoch of each lease that this relay has.
    pub held: Vec<(i32, i64)>,
    /// How many partitions a relay should have at most.
    pub share: usize,
    pub heads: Vec<(i32, i64)>,
}

impl Leases {
    pub(super) fn new(pool: PgPool, owner: Uuid, lease: Duration) -> Self {
        let microseconds = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
        Self { pool, owner, lease: PgInterval { months: 0, days: 0, microseconds } }
    }

    pub(super) fn owner(&self) -> Uuid {
        self.owner
    }

    /// Registers this relay, renews its leases, and takes free ones up to its share.
    pub(super) async fn renew(&self) -> Result<View, sqlx::Error> {
        let heads: Vec<(i32, i64)> =
            sqlx::query_as("select partition, position from heads order by partition").fetch_all(&self.pool).await?;
        let relays = self.register().await?;
        let share = heads.len().div_ceil(relays.max(1));
        let mut held: Vec<(i32, i64)> = sqlx::query_as(
            "update relay_leases set expires_at = now() + $2 where owner = $1 returning partition, epoch",
        )
        .bind(self.owner)
        .bind(self.lease)
        .fetch_all(&self.pool)
        .await?;
        if held.len() < share {
            held.extend(self.take(share - held.len()).await?);
        }
        held.sort_unstable();
        Ok(View { held, share, heads })
    }

    /// Says that this relay is alive, forgets those that are not, and counts.
    async fn register(&self) -> Result<usize, sqlx::Error> {
        let (new, relays): (bool, i64) = sqlx::query_as(
            "with gone as (delete from relays where expires_at < now() and owner <> $1),
             me as (insert into relays (owner, expires_at) values ($1, now() + $2)
                    on conflict (owner) do update set expires_at = excluded.expires_at
                    returning xmax = 0 as new)
             select me.new, (select count(*) from relays where owner <> $1 and expires_at >= now()) + 1 from me",
        )
        .bind(self.owner)
        .bind(self.lease)
        .fetch_one(&self.pool)
        .await?;
        if new {
            self.tell().await?;
        }
        Ok(usize::try_from(relays).unwrap_or(1))
    }

    async fn take(&self, at_most: usize) -> Result<Vec<(i32, i64)>, sqlx::Error> {
        sqlx::query_as(
            "update relay_leases set owner = $1, epoch = epoch + 1, expires_at = now() + $2
             where partition in (
                 select partition from relay_leases
                 where owner is null or (owner <> $1 and expires_at < now())
                 order by partition limit $3 for update skip locked)
             returning partition, epoch",
        )
        .bind(self.owner)
        .bind(self.lease)
        .bind(i64::try_from(at_most).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await
    }

    /// Gives partitions up at once.
    pub(super) async fn release(&self, partitions: &[i32]) -> Result<(), sqlx::Error> {
        if partitions.is_empty() {
            return Ok(());
        }
        sqlx::query("update relay_leases set owner = null where owner = $1 and partition = any($2)")
            .bind(self.owner)
            .bind(partitions)
            .execute(&self.pool)
            .await?;
        self.tell().await
    }

    /// Gives everything up and takes this relay off the list.
    pub(super) async fn leave(&self) -> Result<(), sqlx::Error> {
        sqlx::query(
            "with me as (delete from relays where owner = $1) update relay_leases set owner = null where owner = $1",
        )
        .bind(self.owner)
        .execute(&self.pool)
        .await?;
        self.tell().await
    }

    async fn tell(&self) -> Result<(), sqlx::Error> {
        crate::channel::notify(&self.pool, RELAYS_CHANNEL).await
    }
}
