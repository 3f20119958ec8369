//! Taking a partition over: what does Kafka have of it? Mostly less than the store, and publishing goes on from there.
//! After the store has lost its tail, more: then the tail comes back from Kafka first.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::mpsc;

use super::RelayConfig;
use crate::error::Error;
use crate::event::SealedEvent;
use crate::kafka::{self, KafkaArgs};

/// How long to wait before trying again.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(500);
const KAFKA_TIMEOUT: Duration = Duration::from_secs(5);
/// How many events are restored by one call.
const RESTORE_EVENTS_MAX: usize = 500;

#[derive(Clone)]
pub(super) struct Takeover {
    pool: PgPool,
    kafka: KafkaArgs,
    topic: String,
}

impl Takeover {
    pub(super) fn new(config: &RelayConfig) -> Self {
        Self { pool: config.log_pool.clone(), kafka: config.kafka.clone(), topic: config.topic.clone() }
    }

    /// The last published position of each of these partitions, none of them ahead of the store. A partition that
    /// can't be taken over now has no entry, and keeps no other from being published.
    pub(super) async fn run(&self, partitions: Vec<i32>) -> BTreeMap<i32, i64> {
        let tails = match kafka::tails(&self.kafka, &self.topic, partitions, KAFKA_TIMEOUT).await {
            Ok(tails) => tails,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "Kafka's tails can't be read yet");
                return BTreeMap::new();
            }
        };
        let mut published = BTreeMap::new();
        for (partition, tail) in tails {
            match self.level(partition, tail).await {
                Ok(tail) => drop(published.insert(partition, tail)),
                Err(error) => tracing::warn!(
                    partition,
                    error = &error as &dyn std::error::Error,
                    "a partition can't be taken over yet"
                ),
            }
        }
        published
    }

    /// Sees to it that the store has what Kafka has of a partition.
    async fn level(&self, partition: i32, tail: Result<Option<i64>, Error>) -> Result<i64, Error> {
        let tail = tail?.unwrap_or(0);
        let head: i64 = sqlx::query_scalar("select position from heads where partition = $1")
            .bind(partition)
            .fetch_one(&self.pool)
            .await?;
        if tail > head {
            self.restore(partition, head, tail).await?;
        }
        self.warn_of_loss(partition, tail).await?;
        Ok(tail)
    }

    async fn restore(&self, partition: i32, lost_after: i64, tail: i64) -> Result<(), Error> {
        tracing::error!(partition, lost_after, tail, "the store has lost its tail; restoring it from Kafka");
        let (events, received) = mpsc::channel(RESTORE_EVENTS_MAX);
        // Position p was never written before record p - 1, so what follows the head starts at this offset or later.
        let reading = kafka::read_partition(&self.kafka, &self.topic, partition, lost_after, KAFKA_TIMEOUT, events);
        let (read, restored) = tokio::join!(reading, self.restore_all(partition, lost_after, received));
        let head = restored?;
        metrics::counter!("relay_restored_total").increment(u64::try_from(head - lost_after).unwrap_or(0));
        read?;
        if head < tail {
            tracing::error!(
                partition,
                head,
                tail,
                "Kafka's records have a gap after this position; they can't be restored"
            );
            return Err(Error::Recovering);
        }
        tracing::error!(partition, head, "the tail is restored");
        Ok(())
    }

    async fn restore_all(
        &self,
        partition: i32,
        mut head: i64,
        mut received: mpsc::Receiver<SealedEvent>,
    ) -> Result<i64, Error> {
        let mut batch: Vec<SealedEvent> = Vec::new();
        let mut arrived = Vec::new();
        while received.recv_many(&mut arrived, RESTORE_EVENTS_MAX).await > 0 {
            for event in arrived.drain(..) {
                // Repeats are dropped, as every consumer does.
                if event.position == head + i64::try_from(batch.len()).unwrap_or(i64::MAX) + 1 {
                    batch.push(event);
                }
            }
            if !batch.is_empty() {
                head = restore_batch(&self.pool, partition, &batch).await?;
                batch.clear();
            }
        }
        Ok(head)
    }

    /// A topic that was recreated or restored from an older copy is filled again from the store; somebody should know.
    async fn warn_of_loss(&self, partition: i32, tail: i64) -> Result<(), Error> {
        let known: i64 = sqlx::query_scalar("select position from relay_progress where partition = $1")
            .bind(partition)
            .fetch_one(&self.pool)
            .await?;
        if tail < known {
            tracing::error!(partition, tail, known, "Kafka has less than was published; publishing the rest again");
        }
        Ok(())
    }
}

async fn restore_batch(pool: &PgPool, partition: i32, events: &[SealedEvent]) -> Result<i64, Error> {
    let headers = || events.iter().map(|event| &event.header);
    let head = sqlx::query_scalar("select restore_tail($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)")
        .bind(partition)
        .bind(events.iter().map(|event| event.position).collect::<Vec<_>>())
        .bind(headers().map(|header| header.aggregate_type.as_str()).collect::<Vec<_>>())
        .bind(headers().map(|header| header.aggregate_id.to_string()).collect::<Vec<_>>())
        .bind(headers().map(|header| header.sequence).collect::<Vec<_>>())
        .bind(headers().map(|header| header.subject).collect::<Vec<_>>())
        .bind(headers().map(|header| header.event_type.as_str()).collect::<Vec<_>>())
        .bind(headers().map(|header| header.event_version.as_str()).collect::<Vec<_>>())
        .bind(headers().map(|header| header.key_id).collect::<Vec<_>>())
        .bind(headers().map(|header| header.recorded_at).collect::<Vec<_>>())
        .bind(headers().map(|header| header.traceparent.as_deref()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.sealed.as_slice()).collect::<Vec<_>>());
    Ok(head.fetch_one(pool).await?)
}
