//! What librdkafka tells about the group. Nothing is done inside its callbacks: they pass it on, and the session answers
//! in its own time, after the old owner's work has ended and the new owner's checkpoint is known.

use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::mpsc;

/// A change of who reads what. Each must be answered by assigning or unassigning exactly these.
#[derive(Debug)]
pub(crate) enum Rebalance {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
    Failed,
}

pub(crate) struct Context {
    rebalances: mpsc::UnboundedSender<Rebalance>,
    closing: AtomicBool,
}

impl Context {
    /// The channel is unbounded because a callback can't wait; the group sends a handful at a time.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Rebalance>) {
        let (rebalances, receiver) = mpsc::unbounded_channel();
        (Self { rebalances, closing: AtomicBool::new(false) }, receiver)
    }

    /// From now on the group is answered here: the work has ended, only leaving remains. Every message needs an answer, or
    /// closing waits for it for ever.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
                tracing::debug!(target: "librdkafka", facility, "{message}");
            }
            _ => tracing::warn!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "librdkafka", error = %error, "{reason}");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = list.elements().iter().map(|element| element.partition()).collect();
        let rebalance = match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assigned(partitions),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => Rebalance::Revoked(partitions),
            _ => Rebalance::Failed,
        };
        if self.closing.load(Ordering::SeqCst) {
            let answered = match rebalance {
                Rebalance::Assigned(_) => consumer.incremental_assign(&TopicPartitionList::new()),
                Rebalance::Revoked(_) => consumer.incremental_unassign(list),
                Rebalance::Failed => consumer.unassign(),
            };
            if answered.or_else(|_| consumer.unassign()).is_err() {
                tracing::debug!("partitions were gone before they were given up");
            }
        } else if self.rebalances.send(rebalance).is_err() {
            tracing::debug!("a rebalance came after the session had ended");
        }
    }
}
