//! The topic: what a record looks like, how the topic is made, where its partitions end.

mod look;
mod record;
mod tail;

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use crate::error::Error;

pub use record::{RecordError, parse_record, record_headers, record_key};
pub use tail::read_partition;
pub(crate) use tail::tails;

/// The topic's largest record. A sealed event is limited below it, see [`crate::append::EVENT_BYTES_MAX`].
pub const RECORD_BYTES_MAX: usize = 4 * 1024 * 1024;
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What every Kafka client of ours starts from.
pub(crate) fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("client.id", "nexus");
    config
}

/// Creates the topic with unlimited retention and the brokers' default replication. An existing topic is left as it is,
/// and refused if it has another number of partitions.
pub async fn create_topic(bootstrap: &str, topic: &str, partitions: i32) -> Result<(), Error> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().map_err(Error::unavailable)?;
    let record_bytes_max = RECORD_BYTES_MAX.to_string();
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "delete")
        .set("retention.ms", "-1")
        .set("retention.bytes", "-1")
        .set("max.message.bytes", &record_bytes_max);
    let options = AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT)).request_timeout(Some(ADMIN_TIMEOUT));
    let results = admin.create_topics([&new], &options).await.map_err(Error::unavailable)?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(Error::unavailable(code)),
        }
    }
    tail::check_partitions(bootstrap, topic, partitions, ADMIN_TIMEOUT).await
}

/// The highest position of each partition of the topic, by partition; `None` for an empty one. Gives up when Kafka says
/// nothing for `patience`.
pub async fn tail_positions(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    patience: Duration,
) -> Result<Vec<Option<i64>>, Error> {
    let tails = tails(bootstrap, topic, (0..partitions).collect(), patience).await?;
    tails.into_iter().map(|(_, position)| position).collect()
}
