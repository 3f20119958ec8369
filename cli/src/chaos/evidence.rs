//! What Postgres and Kafka hold when everything is quiet again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nexus_event_store::kafka::parse_record;
use nexus_event_store::{Keyring, LogReader, MasterKey, PARTITIONS_DEFAULT, SealedEvent};
use nexus_projections::engine::{Engine, EngineConfig, GroupProtocol, Hashes, Limits, migrate, row_hashes};
use nexus_projections::{read_models, schema_of};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;

use super::checks::{Event, Evidence};
use super::history::{Place, Version};
use crate::stack::{self, Secrets, Stack, TOPIC};

/// The database that the log is folded into once more.
const AGAIN: &str = "nexus_read_again";
const LEVEL_DEADLINE: Duration = Duration::from_secs(120);
const ORDERS_DEADLINE: Duration = Duration::from_secs(60);
const TOPIC_DEADLINE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
const RANGE: i64 = 2_000;

/// Where the evidence is.
pub struct Witness<'a> {
    stack: &'a Stack,
    secrets: &'a Secrets,
    log: PgPool,
    read: PgPool,
}

impl<'a> Witness<'a> {
    pub async fn connect(stack: &'a Stack, secrets: &'a Secrets) -> Result<Self> {
        let log = stack::connect_as_owner(stack, "nexus_log").await?;
        let read = stack::connect_as_owner(stack, "nexus_read").await?;
        Ok(Self { stack, secrets, log, read })
    }

    /// Waits until every read model has seen everything, and what follows from it has been done.
    pub async fn wait_until_level(&self) -> Result<()> {
        self.level(&self.read).await?;
        let started = Instant::now();
        while orders(&self.read).await?.values().any(|state| state == "due") {
            if started.elapsed() > ORDERS_DEADLINE {
                bail!("the reactors do not carry out what is due");
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        self.level(&self.read).await
    }

    pub async fn gather(&self) -> Result<Evidence> {
        let heads: Vec<(i32, i64)> =
            sqlx::query_as("select partition, position from heads").fetch_all(&self.log).await?;
        let claims: i64 = sqlx::query_scalar("select count(*) from claims").fetch_one(&self.log).await?;
        let parked: i64 = sqlx::query_scalar("select count(*) from projection.parked").fetch_one(&self.read).await?;
        let consumer: BaseConsumer = self.stack.kafka_args().client().set("group.id", "nexus.chaos").create()?;
        let (folded_again, ordered_again) = self.fold_again().await.context("the second fold")?;
        Ok(Evidence {
            log: self.log().await?,
            heads: heads.into_iter().collect(),
            topic: tokio::task::spawn_blocking(move || topic(&consumer)).await??,
            claims: usize::try_from(claims)?,
            parked: usize::try_from(parked)?,
            served: hashes(&self.read).await?,
            folded_again,
            orders: orders(&self.read).await?,
            ordered_again,
        })
    }

    async fn log(&self) -> Result<Vec<Event>> {
        let reader = LogReader::new(self.log.clone());
        let mut events = Vec::new();
        for partition in 0..PARTITIONS_DEFAULT {
            let mut after = 0;
            loop {
                let range = reader.range(partition, after, RANGE).await?;
                let Some(last) = range.last() else { break };
                after = last.position;
                events.extend(range.into_iter().map(Event::from));
            }
        }
        Ok(events)
    }

    /// Folds the log from position 1 on into a fresh database, with the stack's own keys: then nothing may differ.
    /// With the keys of what reactors order.
    async fn fold_again(&self) -> Result<(Hashes, BTreeSet<String>)> {
        let server = stack::connect(self.stack, self.secrets, "postgres", "postgres").await?;
        sqlx::query(&format!("create database {AGAIN}")).execute(&server).await?;
        let again = stack::connect(self.stack, self.secrets, "postgres", AGAIN).await?;
        migrate(&again).await?;
        let keys = stack::connect_as_owner(self.stack, "nexus_keys").await?;
        let master = MasterKey::from_file(self.stack.secret_file("master.key"))?;
        let config = EngineConfig {
            kafka: self.stack.kafka_args(),
            topic: TOPIC.to_owned(),
            group_prefix: "again.".to_owned(),
            group_protocol: GroupProtocol::default(),
            group_instance: None,
            read_database: Arc::unwrap_or_clone(again.connect_options()),
            log: LogReader::new(self.log.clone()),
            keyring: Keyring::connect(keys, master).await?,
            owner: "chaos".to_owned(),
            limits: Limits::default(),
        };
        let engine = Engine::start(&config, read_models());
        let level = self.level(&again).await;
        engine.stop().await;
        level?;
        Ok((hashes(&again).await?, orders(&again).await?.into_keys().collect()))
    }

    async fn level(&self, read: &PgPool) -> Result<()> {
        let heads: Vec<(i32, i64)> =
            sqlx::query_as("select partition, position from heads").fetch_all(&self.log).await?;
        let started = Instant::now();
        loop {
            let behind = stack::read_models_behind(read, &heads).await?;
            if behind.is_empty() {
                return Ok(());
            }
            if started.elapsed() > LEVEL_DEADLINE {
                bail!("these read models do not catch up: {}", behind.join(", "));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

impl From<SealedEvent> for Event {
    fn from(event: SealedEvent) -> Self {
        let header = event.header;
        Self {
            place: Place { partition: event.partition, position: event.position },
            version: Version {
                resource_type: header.aggregate_type,
                id: header.aggregate_id,
                sequence: header.sequence,
            },
            subject: header.subject,
            event_type: header.event_type,
            digest: Sha256::digest(&event.sealed).into(),
        }
    }
}

/// The whole topic, from the first record on.
fn topic(consumer: &BaseConsumer) -> Result<Vec<Event>> {
    let mut assignment = TopicPartitionList::new();
    let mut ends = Vec::new();
    for partition in 0..PARTITIONS_DEFAULT {
        let (low, high) = consumer.fetch_watermarks(TOPIC, partition, TOPIC_DEADLINE)?;
        if low < high {
            ends.push((partition, high));
            assignment.add_partition_offset(TOPIC, partition, Offset::Beginning)?;
        }
    }
    consumer.assign(&assignment)?;
    let (started, mut events) = (Instant::now(), Vec::new());
    while !ends.is_empty() {
        if started.elapsed() > TOPIC_DEADLINE {
            bail!("the topic can't be read to its end");
        }
        let Some(Ok(message)) = consumer.poll(POLL_INTERVAL) else { continue };
        let (partition, offset) = (rdkafka::Message::partition(&message), rdkafka::Message::offset(&message));
        events.push(Event::from(parse_record(&message)?));
        ends.retain(|(ending, high)| *ending != partition || offset + 1 < *high);
    }
    Ok(events)
}

async fn hashes(read: &PgPool) -> Result<Hashes, sqlx::Error> {
    let mut all = Hashes::new();
    for model in read_models() {
        let schema = schema_of(model.name(), model.version());
        let tables = row_hashes(read, &schema).await?;
        all.extend(tables.into_iter().map(|(table, rows)| (format!("{schema}.{table}"), rows)));
    }
    Ok(all)
}

/// What reactors have ordered: the keys, each with the state of its order.
async fn orders(read: &PgPool) -> Result<BTreeMap<String, String>, sqlx::Error> {
    let mut all = BTreeMap::new();
    for model in read_models().iter().filter(|model| model.gives_orders()) {
        let schema = schema_of(model.name(), model.version());
        let orders: Vec<(String, String)> =
            sqlx::query_as(&format!("select key, state from {schema}.orders")).fetch_all(read).await?;
        all.extend(orders);
    }
    Ok(all)
}
