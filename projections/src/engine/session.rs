//! One membership in a consumer group: which partitions this process reads, and their hand-over.
//!
//! The group's messages are answered late on purpose. An assignment is answered when the epochs are raised and the
//! checkpoints read, so reading starts at the right record and never seeks. A revocation is answered when the work on
//! the partitions has ended, so the next owner does not wait for a lock. Neither is needed for correctness (the epoch
//! is), both for speed and peace.

mod lane;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nexus_event_store::kafka::{KafkaArgs, close_aside};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{Offset, error::KafkaError};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::checkpoint::{self, Ownership};
use super::config::{EngineConfig, GroupProtocol, PREFETCH_KIB_PER_PARTITION};
use super::context::{Context, Rebalance};
use super::fault::Fault;
use super::host::{Host, Target};
use super::partition::Halt;
use super::start::Start;
use lane::{Lane, Owned};
use watch::Watch;

/// The consumer is polled at least so often, should a wake-up ever get lost.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long a question to the broker may take.
const BROKER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long leaving the group may take before its other members have to find out by themselves.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// Partitions taken over, and the tables that they are of.
type Taken = (Arc<Target>, Vec<(i32, Ownership)>);

/// How a session ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Stopped,
    /// The certificate was replaced, and a consumer reads it once, when it is made: make the next.
    Renewed,
    /// Start over with a new consumer, for this reason.
    Rebuild(&'static str),
}

pub(crate) struct Session {
    host: Arc<Host>,
    topic: String,
    kafka: KafkaArgs,
    /// When the certificate was replaced that the consumer was made with.
    certificate: Option<SystemTime>,
    consumer: Arc<BaseConsumer<Context>>,
    rebalances: mpsc::UnboundedReceiver<Rebalance>,
    events: Arc<Notify>,
    lanes: HashMap<i32, Lane>,
    /// Lanes report here when they can't go on.
    broken: (mpsc::Sender<&'static str>, mpsc::Receiver<&'static str>),
}

impl Session {
    pub(crate) fn join(config: &EngineConfig, host: Arc<Host>) -> Result<Self, KafkaError> {
        let certificate = config.kafka.certificate_changed();
        let (context, rebalances) = Context::new();
        let mut consumer: BaseConsumer<Context> = client_config(config, &host).create_with_context(context)?;
        let events = Arc::new(Notify::new());
        let wake = events.clone();
        consumer.set_nonempty_callback(move || wake.notify_one());
        consumer.subscribe(&[&config.topic])?;
        Ok(Self {
            host,
            topic: config.topic.clone(),
            kafka: config.kafka.clone(),
            certificate,
            consumer: Arc::new(consumer),
            rebalances,
            events,
            lanes: HashMap::new(),
            broken: mpsc::channel(1),
        })
    }

    /// Serves the group until told to stop, or until only a new consumer helps. Then leaves it.
    pub(crate) async fn run(mut self, stop: &CancellationToken) -> Ended {
        let mut watch = Watch::new(self.host.clone(), self.consumer.clone(), self.topic.clone());
        let ended = self.serve(stop, &mut watch).await;
        self.leave(watch).await;
        ended
    }

    async fn serve(&mut self, stop: &CancellationToken, watch: &mut Watch) -> Ended {
        let mut poll = tokio::time::interval(POLL_INTERVAL);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ended::Stopped,
                Some(reason) = self.broken.1.recv() => return Ended::Rebuild(reason),
                Some(rebalance) = self.rebalances.recv() => {
                    if let Err(reason) = self.answer(rebalance, stop).await {
                        return if stop.is_cancelled() { Ended::Stopped } else { Ended::Rebuild(reason) };
                    }
                }
                () = self.events.notified() => {}
                _ = poll.tick() => {}
                found = watch.next(&self.lanes) => {
                    if let Some(reason) = found {
                        return Ended::Rebuild(reason);
                    }
                    if self.is_certificate_replaced() {
                        return Ended::Renewed;
                    }
                }
            }
            if let Err(reason) = self.poll() {
                return Ended::Rebuild(reason);
            }
        }
    }

    fn is_certificate_replaced(&self) -> bool {
        let changed = self.kafka.certificate_changed();
        changed.is_some() && changed != self.certificate
    }

    /// Serves librdkafka's events. Records have queues of their own and never come this way.
    fn poll(&self) -> Result<(), &'static str> {
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            match event {
                Ok(_) => return Err("a record came outside of its partition's queue"),
                Err(KafkaError::MessageConsumptionFatal(code)) => {
                    tracing::error!(read_model = self.host.name(), ?code, "Kafka refuses this consumer");
                    return Err("refused by Kafka");
                }
                Err(error) => tracing::warn!(
                    read_model = self.host.name(),
                    code = ?error.rdkafka_error_code(),
                    "Kafka reports an error"
                ),
            }
        }
        Ok(())
    }

    async fn answer(&mut self, rebalance: Rebalance, stop: &CancellationToken) -> Result<(), &'static str> {
        match rebalance {
            Rebalance::Assigned(partitions) => self.assign(partitions, stop).await,
            Rebalance::Revoked(partitions) => self.revoke(partitions).await,
            Rebalance::Failed => Err("the group could not be balanced"),
        }
    }

    /// Takes ownership, finds where to start, and only then begins to read.
    async fn assign(&mut self, partitions: Vec<i32>, stop: &CancellationToken) -> Result<(), &'static str> {
        let (target, owned) = self.take(&partitions, stop).await?;
        let starts = self.starts(owned).await?;
        let mut list = TopicPartitionList::new();
        let mut sources = Vec::with_capacity(starts.len());
        for (partition, owned, start) in starts {
            let source = lane::split(&self.consumer, &self.topic, partition).ok_or("no queue for a partition")?;
            list.add_partition_offset(&self.topic, partition, start.offset()).map_err(|_| "an impossible offset")?;
            sources.push((partition, owned, start, source));
        }
        self.consumer.incremental_assign(&list).map_err(|_| "the assignment was out of date")?;
        tracing::info!(read_model = self.host.name(), ?partitions, "partitions taken");
        for (partition, owned, start, source) in sources {
            let owned = Owned { target: target.clone(), partition, owned };
            let lane = Lane::start(self.host.clone(), owned, start, source, self.broken.0.clone());
            self.lanes.insert(partition, lane);
        }
        Ok(())
    }

    /// Stops the work first and lets go then.
    async fn revoke(&mut self, partitions: Vec<i32>) -> Result<(), &'static str> {
        let lanes: Vec<Lane> = partitions.iter().filter_map(|partition| self.lanes.remove(partition)).collect();
        stop_all(lanes, self.host.limits.handover_max).await;
        tracing::info!(read_model = self.host.name(), ?partitions, "partitions given up");
        self.consumer.incremental_unassign(&self.list(&partitions)).map_err(|_| "the revocation was out of date")
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        list
    }

    /// Raises the epochs. A process that can't reach its database for long leaves the partitions to others.
    async fn take(&self, partitions: &[i32], stop: &CancellationToken) -> Result<Taken, &'static str> {
        let deadline = Instant::now() + self.host.limits.ownership_max;
        let mut backoff = Backoff::new(&self.host.limits);
        loop {
            match self.try_to_take(partitions).await {
                Ok(Some(taken)) => return Ok(taken),
                Ok(None) => return Err(Halt::Retired.reason()),
                Err(error) => tracing::warn!(
                    read_model = self.host.name(),
                    reason = Fault::of_database(&error).code(),
                    "partitions can't be taken over yet"
                ),
            }
            if Instant::now() > deadline || !backoff.wait(stop).await {
                return Err("the read database is away");
            }
        }
    }

    /// Nothing if a version of another fold is served, or if another one came to be served in this very moment.
    async fn try_to_take(&self, partitions: &[i32]) -> Result<Option<Taken>, sqlx::Error> {
        let Some(target) = self.host.look_again().await? else { return Ok(None) };
        let Target { name, purpose, pool } = target.as_ref();
        let owned = checkpoint::take(pool, *name, *purpose, partitions, &self.host.owner).await?;
        Ok((owned.len() == partitions.len()).then_some((target, owned)))
    }

    async fn starts(&self, owned: Vec<(i32, Ownership)>) -> Result<Vec<(i32, Ownership, Start)>, &'static str> {
        let (consumer, topic) = (self.consumer.clone(), self.topic.clone());
        let ask = move || {
            let choose = |(partition, owned): (i32, Ownership)| {
                let (low, high) = consumer.fetch_watermarks(&topic, partition, BROKER_TIMEOUT)?;
                Ok((partition, owned, Start::choose(owned.anchor, low, high)))
            };
            owned.into_iter().map(choose).collect::<Result<Vec<_>, KafkaError>>()
        };
        let answer = tokio::task::spawn_blocking(ask).await.map_err(|_| "interrupted")?;
        answer.map_err(|_| "Kafka is away")
    }

    /// Ends all work and leaves the group at once, so that others need not wait for a timeout.
    async fn leave(mut self, watch: Watch) {
        stop_all(self.lanes.drain().map(|(_, lane)| lane).collect(), self.host.limits.handover_max).await;
        watch.end().await;
        let read_model = self.host.name();
        if !matches!(tokio::time::timeout(LEAVE_MAX, close_aside(self)).await, Ok(Ok(()))) {
            tracing::warn!(read_model, "a consumer could not be closed in order");
        }
    }
}

impl Drop for Session {
    /// Answers what the group still waits for; closing the consumer would wait for it forever. Whatever else comes is
    /// answered by the context.
    fn drop(&mut self) {
        self.consumer.context().close();
        while let Ok(rebalance) = self.rebalances.try_recv() {
            let (list, answered) = match rebalance {
                Rebalance::Assigned(_) => (TopicPartitionList::new(), Consumer::incremental_assign as Answer),
                Rebalance::Revoked(partitions) => (self.list(&partitions), Consumer::incremental_unassign as Answer),
                Rebalance::Failed => continue,
            };
            if answered(self.consumer.as_ref(), &list).is_err() {
                tracing::debug!("a rebalance was out of date when the session ended");
            }
        }
    }
}

type Answer = fn(&BaseConsumer<Context>, &TopicPartitionList) -> Result<(), KafkaError>;

async fn stop_all(lanes: Vec<Lane>, within: Duration) {
    for lane in &lanes {
        lane.tell_to_stop();
    }
    let deadline = Instant::now() + within;
    for lane in lanes {
        lane.stopped(deadline).await;
    }
}

fn client_config(config: &EngineConfig, host: &Host) -> ClientConfig {
    let model = host.fold.model.as_ref();
    let mut client = config.kafka.client();
    client
        .set("client.id", format!("projector-{}", host.name()))
        .set("group.id", format!("{}nexus.{}.v{}", config.group_prefix, model.name(), model.version()))
        // The checkpoint says what to read. The group's offsets are written for lag tools only, about once a second.
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("queued.max.messages.kbytes", PREFETCH_KIB_PER_PARTITION)
        .set("fetch.wait.max.ms", "500")
        .set("fetch.error.backoff.ms", "100")
        .set("fetch.queue.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "1000")
        .set("topic.metadata.refresh.interval.ms", "5000")
        .set("allow.auto.create.topics", "false");
    if let Some(instance) = &config.group_instance {
        client.set("group.instance.id", instance);
    }
    match config.group_protocol {
        GroupProtocol::Classic => client
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", host.limits.session_timeout.as_millis().to_string())
            .set("heartbeat.interval.ms", (host.limits.session_timeout / 6).as_millis().to_string()),
        GroupProtocol::Consumer => client.set("group.protocol", "consumer"),
    };
    client
}

/// The offset that Kafka's own tools shall see.
pub(crate) fn store_offset(consumer: &BaseConsumer<Context>, topic: &str, partition: i32, next: i64) {
    let mut list = TopicPartitionList::new();
    let stored =
        list.add_partition_offset(topic, partition, Offset::Offset(next)).and_then(|()| consumer.store_offsets(&list));
    if stored.is_err() {
        tracing::debug!(partition, "the group's offset is not stored: the partition is being handed over");
    }
}
