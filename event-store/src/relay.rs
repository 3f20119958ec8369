//! Positions → Kafka. Moves ciphertext; holds no keys.
//!
//! One relay owns a partition by a lease with an epoch. Taking it over, it reads Kafka's tail to learn what was
//! published; a relay that lost its lease without noticing can at worst repeat positions, which consumers drop.
//!
//! One loop serves all partitions of the process: one read and one progress update cover whatever is due, while each
//! partition waits for its own acknowledgements. They share one idempotent producer, as one connection and fuller
//! requests are cheaper than a producer each; when it fails, a new one takes its place and every partition that was
//! using the old one reads its tail again.

pub mod holdings;

mod lease;
mod producer;
mod progress;
mod sweep;
mod takeover;
mod wake;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::error::Error;
use crate::event::SealedEvent;
use crate::kafka::KafkaArgs;

use holdings::{Advanced, Begin, Holdings, WentBack};
use lease::Leases;
use producer::{Failed, Producers};
use takeover::Takeover;

/// How many events of a partition are published before their acknowledgements are waited for.
pub(crate) const BATCH_EVENTS_MAX: i64 = 500;
/// A batch of one partition takes no more events once it holds this many sealed bytes.
pub(crate) const BATCH_BYTES_MAX: i64 = 4 * 1024 * 1024;
/// How often the log is looked at when nothing wakes the relay.
const POLL: Duration = Duration::from_millis(250);
/// A lease is renewed this many times in its life.
const HEARTBEATS_PER_LEASE: u32 = 5;
/// How long a stopping relay waits for acknowledgements.
const STOP_GRACE: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(10);

/// What a relay is made of.
#[derive(Clone)]
pub struct RelayConfig {
    pub log_pool: PgPool,
    pub kafka: KafkaArgs,
    pub topic: String,
    /// How long a partition stays with a relay that does not answer.
    pub lease: Duration,
    pub pace: Pace,
}

/// When a relay publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As soon as it is told that something was appended.
    AtOnce,
    /// Four times a second, whatever has gathered by then: for a log that nobody waits for.
    Gathering,
}

impl RelayConfig {
    /// With the usual lease of ten seconds, publishing at once.
    pub fn new(log_pool: PgPool, kafka: impl Into<KafkaArgs>, topic: impl Into<String>) -> Self {
        Self { log_pool, kafka: kafka.into(), topic: topic.into(), lease: LEASE, pace: Pace::AtOnce }
    }
}

/// Publishes the partitions it can lease until it is told to stop.
pub struct Relay {
    config: RelayConfig,
    leases: Leases,
    producers: Arc<Producers>,
    takeover: Takeover,
    holdings: Holdings,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    renewed_at: Option<Instant>,
    ready: watch::Sender<bool>,
}

/// Something that was under way has come to its end.
enum Done {
    /// How far the partitions are published; one that could not be taken over has no entry.
    TookOver {
        epochs: Vec<(i32, i64)>,
        published: BTreeMap<i32, i64>,
    },
    Published {
        partition: i32,
        epoch: i64,
        up_to: i64,
    },
    Failed {
        partition: i32,
        epoch: i64,
        failed: Failed,
    },
}

impl Relay {
    /// A relay that has not taken anything yet.
    pub fn try_new(config: RelayConfig) -> Result<Self, Error> {
        let owner = Uuid::new_v4();
        Ok(Self {
            leases: Leases::new(config.log_pool.clone(), owner, config.lease),
            producers: Arc::new(Producers::try_new(&config.kafka, &config.topic)?),
            takeover: Takeover::new(&config),
            holdings: Holdings::default(),
            under_way: FuturesUnordered::new(),
            renewed_at: None,
            ready: watch::Sender::new(false),
            config,
        })
    }

    /// Whether the relay is in touch with the store: true from its first heartbeat that succeeds.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Publishes until stopped; then waits for what is under way and gives every lease up. Never ends for an error:
    /// Postgres or Kafka being away is waited out.
    pub async fn run(mut self, stop: CancellationToken) {
        let woken = Arc::new(wake::Wake::default());
        let _listening =
            AbortOnDropHandle::new(tokio::spawn(wake::listen(self.config.log_pool.clone(), woken.clone())));
        let _sweeping = AbortOnDropHandle::new(tokio::spawn(sweep::run(self.config.log_pool.clone())));
        let mut heartbeat = interval(self.config.lease / HEARTBEATS_PER_LEASE);
        let mut poll = interval(POLL);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut due = self.config.pace == Pace::AtOnce;
            tokio::select! {
                () = stop.cancelled() => break,
                _ = heartbeat.tick() => self.heartbeat().await,
                () = woken.relays_changed.notified() => self.heartbeat().await,
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => self.settle(done).await,
                () = woken.appended.notified() => {}
                _ = poll.tick() => due = true,
            }
            self.take_over();
            if due {
                self.publish_next().await;
            }
        }
        self.stop().await;
    }

    /// Renews what is held, gives up what is too much, takes what is free.
    async fn heartbeat(&mut self) {
        self.producers.renew();
        let started = Instant::now();
        match self.leases.renew().await {
            Ok(view) => {
                self.renewed_at = Some(started);
                self.ready.send_replace(true);
                self.holdings.adopt(&view.held, Instant::now());
                self.distrust(&view.heads);
                self.give_up_surplus(view.share).await;
                self.report_lag(&view.heads);
            }
            Err(error) => {
                self.ready.send_replace(false);
                tracing::warn!(error = &error as &dyn std::error::Error, "leases could not be renewed");
            }
        }
    }

    fn distrust(&mut self, heads: &[(i32, i64)]) {
        for WentBack { partition, head, published } in self.holdings.distrust(heads, Instant::now()) {
            tracing::error!(partition, head, published, "the store has less than was published from it");
        }
    }

    /// Finds out how far those partitions are published of which that is not known: all together, one round at a time.
    fn take_over(&mut self) {
        let epochs = self.holdings.begin_takeover(Instant::now());
        if epochs.is_empty() {
            return;
        }
        let (takeover, partitions) = (self.takeover.clone(), epochs.iter().map(|(partition, _)| *partition).collect());
        // A task of its own: it holds connections that this loop waits for, so it must go on while the loop waits.
        let running = AbortOnDropHandle::new(tokio::spawn(async move { takeover.run(partitions).await }));
        let done = async move { Done::TookOver { epochs, published: running.await.unwrap_or_default() } };
        self.under_way.push(Box::pin(done));
    }

    async fn give_up_surplus(&mut self, share: usize) {
        self.holdings.mark_surplus(share);
        self.release_surplus().await;
    }

    async fn release_surplus(&mut self) {
        let released = self.holdings.release_surplus();
        if let Err(error) = self.leases.release(&released).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "surplus leases run out by themselves");
        }
    }

    /// Handles one thing that ended, and whatever else has ended meanwhile, with one progress update.
    async fn settle(&mut self, done: Done) {
        let mut advanced = Vec::new();
        let mut next = Some(done);
        while let Some(done) = next {
            self.settle_one(done, &mut advanced);
            next = futures::FutureExt::now_or_never(self.under_way.next()).flatten();
        }
        match progress::advance(&self.config.log_pool, self.leases.owner(), &advanced).await {
            Ok(ours) => self.drop_lost(&advanced, &ours),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "progress could not be stored"),
        }
        self.release_surplus().await;
    }

    fn settle_one(&mut self, done: Done, advanced: &mut Vec<Advanced>) {
        let retry_at = Instant::now() + takeover::RETRY_PAUSE;
        match done {
            Done::TookOver { epochs, published } => {
                advanced.extend(self.holdings.took_over(&epochs, &published, retry_at));
            }
            Done::Published { partition, epoch, up_to } => {
                advanced.extend(self.holdings.published(partition, epoch, up_to));
            }
            Done::Failed { partition, epoch, failed } => {
                tracing::warn!(
                    partition,
                    error = &failed.error as &dyn std::error::Error,
                    "publishing failed; reading the tail again"
                );
                self.producers.replace(failed.generation);
                self.holdings.failed(partition, epoch, retry_at);
            }
        }
    }

    fn drop_lost(&mut self, advanced: &[Advanced], ours: &[i32]) {
        for (partition, epoch) in self.holdings.drop_lost(advanced, ours) {
            tracing::warn!(partition, epoch, "the lease went to another relay");
        }
    }

    /// Starts the next batch of every partition that has none under way.
    async fn publish_next(&mut self) {
        // A process that was paused past its lease publishes nothing before it has asked again.
        if self.renewed_at.is_none_or(|at| at.elapsed() > self.config.lease) {
            return;
        }
        match progress::read_next(&self.config.log_pool, &self.holdings.idle()).await {
            Ok(batches) => batches.into_iter().for_each(|(partition, events)| self.publish(partition, events)),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the log could not be read"),
        }
    }

    fn publish(&mut self, partition: i32, events: Vec<SealedEvent>) {
        let epoch = match self.holdings.begin(partition, &events) {
            Begin::Begun { epoch } => epoch,
            Begin::NotIdle => return,
            Begin::Gap { after, position } => {
                tracing::error!(partition, after, position, "the log has a gap; this partition stands still");
                return;
            }
        };
        let producers = self.producers.clone();
        self.under_way.push(Box::pin(async move {
            match producers.publish(events).await {
                Ok(up_to) => Done::Published { partition, epoch, up_to },
                Err(failed) => Done::Failed { partition, epoch, failed },
            }
        }));
    }

    fn report_lag(&self, heads: &[(i32, i64)]) {
        for (partition, head) in heads {
            let lag = self.holdings.lag(*partition, *head);
            let topic = self.config.topic.clone();
            metrics::gauge!("relay_lag_events", "topic" => topic, "partition" => partition.to_string()).set(lag as f64);
        }
    }

    async fn stop(&mut self) {
        let deadline = tokio::time::Instant::now() + STOP_GRACE;
        while self.holdings.is_publishing() {
            match tokio::time::timeout_at(deadline, self.under_way.next()).await {
                Ok(Some(done)) => self.settle(done).await,
                Ok(None) | Err(_) => break,
            }
        }
        if let Err(error) = self.leases.leave().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "leases run out by themselves");
        }
    }
}
