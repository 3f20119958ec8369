//! Looks up how far Kafka is, for the lag metrics and the watchdog.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant as Clock;

use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::{BROKER_TIMEOUT, Lane};
use crate::engine::context::Context;
use crate::engine::host::Host;
use crate::engine::metrics::Gauges;
use crate::engine::wait::{Head, note_heads};
use crate::engine::watchdog::Stall;

/// Where a partition ends, and how far the reader had come before that was asked.
struct End {
    partition: i32,
    next_before: i64,
    high: i64,
}

type Ends = Vec<End>;

pub(crate) struct Watch {
    host: Arc<Host>,
    consumer: Arc<BaseConsumer<Context>>,
    topic: String,
    stalls: HashMap<i32, Stall>,
    due: Instant,
    asking: Option<JoinHandle<Ends>>,
}

impl Watch {
    pub(crate) fn new(host: Arc<Host>, consumer: Arc<BaseConsumer<Context>>, topic: String) -> Self {
        let due = Instant::now() + host.limits.watch_interval;
        Self { host, consumer, topic, stalls: HashMap::new(), due, asking: None }
    }

    /// Completes once per look, with a reason if the consumer has to be rebuilt. May be dropped and called again.
    pub(crate) async fn next(&mut self, lanes: &HashMap<i32, Lane>) -> Option<&'static str> {
        if self.asking.is_none() {
            sleep_until(self.due).await;
            self.asking = Some(self.ask(lanes));
        }
        let ends = match &mut self.asking {
            Some(asking) => asking.await.unwrap_or_default(),
            None => Ends::new(),
        };
        self.asking = None;
        self.due = Instant::now() + self.host.limits.watch_interval;
        self.judge(lanes, &ends).await
    }

    /// Waits for a question that is under way: it holds on to the consumer, which could not be closed before it.
    pub(crate) async fn end(self) {
        if let Some(asking) = self.asking {
            // A question that panicked holds on to nothing.
            drop(asking.await);
        }
    }

    /// A broker that does not answer gives no ends: Kafka being away is not the consumer's stall.
    fn ask(&self, lanes: &HashMap<i32, Lane>) -> JoinHandle<Ends> {
        let (consumer, topic) = (self.consumer.clone(), self.topic.clone());
        let readers: Vec<_> = lanes.iter().map(|(number, lane)| (*number, lane.progress.next_offset())).collect();
        tokio::task::spawn_blocking(move || {
            let end = |(partition, next_before)| {
                let (_, high) = consumer.fetch_watermarks(&topic, partition, BROKER_TIMEOUT).ok()?;
                Some(End { partition, next_before, high })
            };
            readers.into_iter().map_while(end).collect()
        })
    }

    async fn judge(&mut self, lanes: &HashMap<i32, Lane>, ends: &Ends) -> Option<&'static str> {
        let now = Clock::now();
        let mut heads = Vec::with_capacity(ends.len());
        for End { partition, next_before, high } in ends {
            let Some(lane) = lanes.get(partition) else { continue };
            let (next, waiting) = (lane.progress.next_offset(), lane.progress.is_waiting());
            let lag = (high - next).max(0);
            Gauges::new(self.host.name(), *partition).lag(lag, lane.progress.behind(lag));
            heads.push(Head { partition: *partition, position: lane.progress.position() + lag, level: lag == 0 });
            if high < next_before {
                return Some("the topic is shorter than what was read");
            }
            let stall = self.stalls.entry(*partition).or_insert_with(Stall::new);
            if stall.is_stalled(next, *high, waiting, now, self.host.limits.stall_max) {
                return Some("lag without progress");
            }
        }
        note_heads(&self.host.target().pool, self.host.fold.model.log(), &heads).await;
        None
    }
}
