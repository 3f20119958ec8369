//! The task of one assigned partition.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use rdkafka::consumer::BaseConsumer;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::store_offset;
use crate::engine::batch::Record;
use crate::engine::checkpoint::Ownership;
use crate::engine::context::Context;
use crate::engine::host::{Host, Target};
use crate::engine::metrics::{Gauges, Progress};
use crate::engine::partition::{Halt, Partition};
use crate::engine::source::Source;
use crate::engine::start::{Continuity, Seen, Start};

pub(crate) struct Lane {
    task: JoinHandle<()>,
    stop: CancellationToken,
    gauges: Gauges,
    pub(crate) progress: Arc<Progress>,
}

/// A partition that was taken over, and the tables that it is of.
pub(crate) struct Owned {
    pub(crate) target: Arc<Target>,
    pub(crate) partition: i32,
    pub(crate) owned: Ownership,
}

/// The records of a partition together with the consumer they come from.
pub(crate) struct Split {
    source: Source,
    consumer: Arc<BaseConsumer<Context>>,
    topic: String,
}

pub(crate) fn split(consumer: &Arc<BaseConsumer<Context>>, topic: &str, partition: i32) -> Option<Split> {
    let source = Source::split(consumer, topic, partition)?;
    Some(Split { source, consumer: consumer.clone(), topic: topic.to_owned() })
}

impl Lane {
    pub(crate) fn start(
        host: Arc<Host>,
        Owned { target, partition: number, owned }: Owned,
        start: Start,
        split: Split,
        broken: mpsc::Sender<&'static str>,
    ) -> Self {
        let stop = CancellationToken::new();
        let continuity = Continuity::new(start);
        let progress = Arc::new(Progress::new(owned.position, continuity.next_offset()));
        let gauges = Gauges::new(host.name(), number);
        let partition = Partition::new(host.clone(), target, number, owned, progress.clone(), stop.clone());
        let reader =
            Reader { host, number, start, split, continuity, progress: progress.clone(), gauges: gauges.clone() };
        let stopping = stop.clone();
        let task = tokio::spawn(async move {
            let reason = match AssertUnwindSafe(reader.run(partition, &stopping)).catch_unwind().await {
                Ok(Halt::Stopped) => return,
                Ok(halt) => halt.reason(),
                Err(_) => "a partition's task panicked",
            };
            if broken.try_send(reason).is_err() {
                tracing::debug!("another lane has already asked for a new consumer");
            }
        });
        Self { task, stop, gauges, progress }
    }

    pub(crate) fn tell_to_stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the current batch to end, and ends it if that takes too long: its transaction is rolled back.
    pub(crate) async fn stopped(mut self, deadline: Instant) {
        if tokio::time::timeout_at(deadline, &mut self.task).await.is_err() {
            self.task.abort();
            // Waiting for an aborted task; that it was aborted is no news.
            drop((&mut self.task).await);
        }
        // From now on another process knows.
        self.gauges.given_up();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Reader {
    host: Arc<Host>,
    number: i32,
    start: Start,
    split: Split,
    continuity: Continuity,
    progress: Arc<Progress>,
    gauges: Gauges,
}

impl Reader {
    async fn run(mut self, mut partition: Partition, stop: &CancellationToken) -> Halt {
        if let Start::Over { lost, low } = self.start {
            self.say_changed(lost.map_or(low, |lost| lost.offset));
            if let Err(halt) = partition.apply_from_store().await {
                return halt;
            }
        }
        let mut records = VecDeque::new();
        loop {
            self.progress.waiting(true);
            let receive = self.split.source.receive(&mut records, &self.host.limits);
            if stop.run_until_cancelled(receive).await.is_none() {
                return Halt::Stopped;
            }
            self.progress.waiting(false);
            self.look_at(&mut records);
            if let Err(halt) = partition.apply_all(&mut records).await {
                return halt;
            }
            let next = self.continuity.next_offset();
            self.progress.read_until(next);
            store_offset(&self.split.consumer, &self.split.topic, self.number, next);
        }
    }

    /// Drops the record by which the topic is recognised, and says so if it is not there.
    fn look_at(&mut self, records: &mut VecDeque<Record>) {
        records.retain(|record| match self.continuity.see(record) {
            Seen::Next => true,
            Seen::Anchor => false,
            Seen::Other => {
                self.say_changed(record.offset);
                true
            }
        });
    }

    fn say_changed(&self, offset: i64) {
        self.gauges.topic_changed();
        tracing::error!(
            read_model = self.host.name(),
            partition = self.number,
            offset,
            "the topic is not the one read before: truncated, recreated or restored; positions decide what is new"
        );
    }
}
