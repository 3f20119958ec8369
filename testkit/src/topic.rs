//! A topic that exists for one test.

use std::time::Duration;

use nexus_event_store::{PARTITIONS_DEFAULT, kafka};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use uuid::Uuid;

use crate::cleanup::block_on_thread;
use crate::servers::kafka_address;

const DELETION_TIMEOUT: Duration = Duration::from_secs(10);

/// A fresh topic with the platform's settings; deleted when this value is dropped.
pub struct TestTopic {
    name: String,
}

impl TestTopic {
    pub async fn create() -> Self {
        Self::with_partitions(PARTITIONS_DEFAULT).await
    }

    pub async fn with_partitions(partitions: i32) -> Self {
        let name = format!("test.events.{}", Uuid::new_v4().simple());
        kafka::create_topic(&kafka_address(), &name, partitions).await.expect("the test broker creates topics");
        Self { name }
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for TestTopic {
    fn drop(&mut self) {
        let name = self.name.clone();
        block_on_thread(|| async move {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", kafka_address()).set("log_level", "0");
            if let Ok(client) = config.create::<AdminClient<DefaultClientContext>>() {
                let options = AdminOptions::new().operation_timeout(Some(DELETION_TIMEOUT));
                client.delete_topics(&[&name], &options).await.ok();
            }
        });
    }
}
