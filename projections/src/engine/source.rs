//! The records of one partition, from a queue of their own: a slow partition holds up no other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use nexus_event_store::kafka::parse_record;
use rdkafka::Message;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use tokio::sync::Notify;

use super::batch::Record;
use super::config::Limits;
use super::context::Context;

/// The queue is looked into at least so often, should a wake-up ever get lost.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(crate) struct Source {
    queue: PartitionQueue<Context>,
    filled: Arc<Notify>,
    partition: i32,
}

impl Source {
    /// Splits the partition off the consumer. Done before it is assigned, so no record goes elsewhere.
    pub(crate) fn split(consumer: &Arc<BaseConsumer<Context>>, topic: &str, partition: i32) -> Option<Self> {
        let mut queue = consumer.split_partition_queue(topic, partition)?;
        let filled = Arc::new(Notify::new());
        let wake = filled.clone();
        queue.set_nonempty_callback(move || wake.notify_one());
        Some(Self { queue, filled, partition })
    }

    /// Waits for records and takes what is there, up to a batch.
    pub(crate) async fn receive(&self, records: &mut VecDeque<Record>, limits: &Limits) {
        loop {
            self.take(records, limits);
            if !records.is_empty() {
                return;
            }
            // Running out means looking again; both outcomes of the timeout lead there.
            drop(tokio::time::timeout(LOOK_AGAIN, self.filled.notified()).await);
        }
    }

    fn take(&self, records: &mut VecDeque<Record>, limits: &Limits) {
        let mut bytes = 0;
        while records.len() < limits.batch_events_max && bytes < limits.batch_bytes_max {
            match self.queue.poll(Duration::ZERO) {
                None => return,
                Some(Ok(message)) => {
                    bytes += message.payload_len();
                    let event = parse_record(&message).ok().filter(|event| event.partition == self.partition);
                    records.push_back(Record { offset: message.offset(), event });
                }
                Some(Err(error)) => {
                    tracing::warn!(partition = self.partition, code = ?error.rdkafka_error_code(), "Kafka reports an error");
                }
            }
        }
    }
}
