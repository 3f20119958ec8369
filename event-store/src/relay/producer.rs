//! The producer that all partitions of a relay share, and its replacement when it fails.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode;

use crate::error::Error;
use crate::event::SealedEvent;
use crate::kafka::{self, KafkaArgs, record_headers, record_key};

/// A record that is not acknowledged by then has failed: the partition stops and reads Kafka's tail.
const MESSAGE_TIMEOUT_MS: &str = "30000";
/// Bounds what the producer holds; more than this waits in Postgres.
const QUEUE_KBYTES_MAX: &str = "131072";
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(20);

/// A failed batch, and which producer it was given to.
pub(super) struct Failed {
    pub error: KafkaError,
    pub generation: u64,
}

pub(super) struct Producers {
    kafka: KafkaArgs,
    topic: String,
    current: Mutex<(u64, Arc<FutureProducer>)>,
    /// When the certificate was replaced that the current producer was made with.
    certificate: Mutex<Option<SystemTime>>,
}

impl Producers {
    pub(super) fn try_new(kafka: &KafkaArgs, topic: &str) -> Result<Self, Error> {
        let certificate = Mutex::new(kafka.certificate_changed());
        let first = create(kafka).map_err(Error::unavailable)?;
        Ok(Self { kafka: kafka.clone(), topic: topic.into(), current: Mutex::new((0, Arc::new(first))), certificate })
    }

    fn current(&self) -> (u64, Arc<FutureProducer>) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a new producer in the place of a failed one, and drops what the old one still had to send. A producer that
    /// has been replaced already is left alone: several batches fail with it.
    pub(super) fn replace(&self, failed: u64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != failed {
            return;
        }
        match create(&self.kafka) {
            Ok(new) => {
                current.1.purge(PurgeConfig::default().queue().inflight());
                *current = (failed + 1, Arc::new(new));
                metrics::counter!("relay_producers_replaced_total").increment(1);
            }
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "no new producer could be made"),
        }
    }

    /// Puts a producer with the new certificate in the place of one that was made before it was replaced. What the old one
    /// has under way it ends: no partition begins a batch before its last one is settled.
    pub(super) fn renew(&self) {
        let mut certificate = self.certificate.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.kafka.certificate_changed();
        if changed.is_none() || *certificate == changed {
            return;
        }
        match create(&self.kafka) {
            Ok(new) => {
                let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
                *current = (current.0 + 1, Arc::new(new));
                *certificate = changed;
                tracing::info!("a producer with the new certificate took over");
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the new certificate can't be used"),
        }
    }

    /// Publishes events of one partition in order and waits for every acknowledgement. Returns the last position.
    pub(super) async fn publish(&self, events: Vec<SealedEvent>) -> Result<i64, Failed> {
        let started = Instant::now();
        let (generation, producer) = self.current();
        let failed = |error| Failed { error, generation };
        let mut acknowledgements = Vec::with_capacity(events.len());
        for event in &events {
            acknowledgements.push(self.enqueue(&producer, event).await.map_err(failed)?);
        }
        for acknowledgement in acknowledgements {
            let delivered = acknowledgement.await.map_err(|_| failed(KafkaError::Canceled))?;
            delivered.map_err(|(error, _)| failed(error))?;
        }
        metrics::counter!("relay_published_total").increment(events.len() as u64);
        metrics::histogram!("relay_batch_seconds").record(started.elapsed().as_secs_f64());
        Ok(events.last().map_or(0, |event| event.position))
    }

    async fn enqueue(
        &self,
        producer: &FutureProducer,
        event: &SealedEvent,
    ) -> Result<rdkafka::producer::DeliveryFuture, KafkaError> {
        let key = record_key(event);
        let mut record = FutureRecord::to(&self.topic)
            .partition(event.partition)
            .key(&key)
            .payload(&event.sealed)
            .headers(record_headers(event));
        loop {
            match producer.send_result(record) {
                Ok(acknowledgement) => return Ok(acknowledgement),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    tokio::time::sleep(QUEUE_FULL_PAUSE).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }
}

fn create(kafka: &KafkaArgs) -> Result<FutureProducer, KafkaError> {
    kafka
        .client()
        .set("enable.idempotence", "true")
        // A record that fails fails the producer, so that no later one of its partition can get ahead of it.
        .set("enable.gapless.guarantee", "true")
        .set("acks", "all")
        // The partition is given; this is for whoever forgets it.
        .set("partitioner", "murmur2_random")
        .set("max.in.flight.requests.per.connection", "5")
        .set("message.timeout.ms", MESSAGE_TIMEOUT_MS)
        .set("message.max.bytes", kafka::RECORD_BYTES_MAX.to_string())
        .set("queue.buffering.max.kbytes", QUEUE_KBYTES_MAX)
        .set("linger.ms", "1")
        // Ciphertext does not compress.
        .set("compression.type", "none")
        .create()
}
