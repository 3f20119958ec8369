//! The topic: what a record looks like, how the topic is made, where its partitions end.

mod close;
mod look;
mod record;
mod tail;

use std::time::{Duration, SystemTime};

use clap::Args;
pub use nexus_web::transport::ClientTlsArgs;
use nexus_web::transport::{PlaintextRefused, refuse_plaintext};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use crate::error::Error;

pub use close::close_aside;
pub use record::{RecordError, parse_record, record_headers, record_key};
pub use tail::read_partition;
pub(crate) use tail::tails;

/// The topic's largest record. A sealed event is limited below it, see [`crate::append::EVENT_BYTES_MAX`].
pub const RECORD_BYTES_MAX: usize = 4 * 1024 * 1024;
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Where Kafka is, and how this process proves to it who it is.
#[derive(Clone, Debug, Args)]
pub struct KafkaArgs {
    /// Kafka's bootstrap servers.
    #[arg(long = "kafka", env = "NEXUS_KAFKA", id = "kafka")]
    pub servers: String,
    #[command(flatten)]
    pub tls: ClientTlsArgs,
}

impl KafkaArgs {
    /// Refuses brokers beyond this machine that would be spoken to in the clear.
    ///
    /// # Errors
    /// With the first such broker.
    pub fn check(&self) -> Result<(), PlaintextRefused> {
        let protected = self.tls.client_cert_file.is_some();
        let hosts = self.servers.split(',').map(|server| server.trim().rsplit_once(':').map_or(server, |it| it.0));
        hosts.into_iter().try_for_each(|host| {
            refuse_plaintext("Kafka", host, protected, "set --client-cert-file, --client-key-file and --ca-file")
        })
    }

    /// When the certificate was last replaced. A client reads it when it is made, so whoever keeps one makes a new one
    /// when this changes.
    pub fn certificate_changed(&self) -> Option<SystemTime> {
        std::fs::metadata(self.tls.client_cert_file.as_ref()?).and_then(|it| it.modified()).ok()
    }

    /// What every Kafka client of ours starts from. The files are read when a client is made from it.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers).set("client.id", "nexus");
        let ClientTlsArgs { ca_file, client_cert_file, client_key_file } = &self.tls;
        if let (Some(certificate), Some(key)) = (client_cert_file, client_key_file) {
            config
                .set("security.protocol", "ssl")
                .set("ssl.certificate.location", certificate.to_string_lossy())
                .set("ssl.key.location", key.to_string_lossy());
            if let Some(authorities) = ca_file {
                config.set("ssl.ca.location", authorities.to_string_lossy());
            }
        }
        config
    }
}

/// A broker on this machine, in the clear.
impl From<&str> for KafkaArgs {
    fn from(servers: &str) -> Self {
        Self { servers: servers.to_owned(), tls: ClientTlsArgs::default() }
    }
}

impl From<String> for KafkaArgs {
    fn from(servers: String) -> Self {
        Self::from(servers.as_str())
    }
}

impl From<&String> for KafkaArgs {
    fn from(servers: &String) -> Self {
        Self::from(servers.as_str())
    }
}

impl From<&KafkaArgs> for KafkaArgs {
    fn from(kafka: &KafkaArgs) -> Self {
        kafka.clone()
    }
}

/// Creates the topic with unlimited retention and the brokers' default replication. An existing topic is left as it is,
/// and refused if it has another number of partitions.
pub async fn create_topic(kafka: impl Into<KafkaArgs>, topic: &str, partitions: i32) -> Result<(), Error> {
    let kafka = kafka.into();
    let admin: AdminClient<DefaultClientContext> = kafka.client().create().map_err(Error::unavailable)?;
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
    tail::check_partitions(&kafka, topic, partitions, ADMIN_TIMEOUT).await
}

/// The highest position of each partition of the topic, by partition; `None` for an empty one. Gives up when Kafka says
/// nothing for `patience`.
pub async fn tail_positions(
    kafka: impl Into<KafkaArgs>,
    topic: &str,
    partitions: i32,
    patience: Duration,
) -> Result<Vec<Option<i64>>, Error> {
    let tails = tails(&kafka.into(), topic, (0..partitions).collect(), patience).await?;
    tails.into_iter().map(|(_, position)| position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_elsewhere_need_a_certificate() {
        for (servers, passes) in [
            ("127.0.0.1:9092", true),
            ("localhost:9092, [::1]:9092", true),
            ("127.0.0.1:9092,kafka-2.example.org:9092", false),
            ("10.0.0.1", false),
        ] {
            let mut kafka = KafkaArgs::from(servers);
            assert_eq!(kafka.check().is_ok(), passes, "{servers}");
            kafka.tls.client_cert_file = Some("relay.pem".into());
            assert!(kafka.check().is_ok(), "{servers} with a certificate");
        }
    }
}
