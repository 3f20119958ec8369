//! A log, a topic, a key store and a read database of a test's own, and a toy read model that betrays every event lost,
//! repeated or out of order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use nexus_event_store::kafka::{create_topic, record_headers, record_key};
use nexus_event_store::{
    Header, Keyring, LogReader, MasterKey, Metadata, Opened, SealedEvent, envelope, migrate_keys, migrate_log,
    partition_of,
};
use nexus_projections::engine::parked::Retry;
use nexus_projections::engine::rebuild::{Pace, Rebuild};
use nexus_projections::engine::{EngineConfig, GroupProtocol, Limits, migrate_models};
use nexus_projections::{ApplyError, Event, ReadModel, schema_of};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{counters, words};

pub const PARTITIONS: i32 = 12;
/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub name: String,
    pub log: PgPool,
    pub read: PgPool,
    pub keyring: Keyring,
    pub keys: PgPool,
    pub kafka: String,
    pub topic: String,
    pub subjects: Vec<Uuid>,
    pub history: Mutex<Vec<SealedEvent>>,
    producer: FutureProducer,
    server: PgConnectOptions,
}

pub fn postgres() -> PgConnectOptions {
    std::env::var("NEXUS_TEST_POSTGRES").expect("NEXUS_TEST_POSTGRES names a server").parse().unwrap()
}

pub fn kafka() -> String {
    std::env::var("NEXUS_TEST_KAFKA").expect("NEXUS_TEST_KAFKA names a broker")
}

fn topic(name: &str) -> String {
    format!("{name}.events")
}

fn master_key_file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{name}.key"))
}

fn config(name: &str, log: PgPool, keyring: Keyring) -> EngineConfig {
    EngineConfig {
        kafka: kafka().into(),
        topic: topic(name),
        group_prefix: format!("{name}."),
        group_protocol: GroupProtocol::default(),
        group_instance: None,
        // With the rights that a projector has in production.
        read_database: postgres().database(&format!("{name}_read")).username("nexus_projector"),
        log: LogReader::new(log),
        keyring,
        owner: format!("test-{}", Uuid::new_v4().simple()),
        limits: Limits {
            batch_events_max: 50,
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(200),
            stall_max: Duration::from_secs(10),
            watch_interval: Duration::from_millis(200),
            retake_after: Duration::from_millis(100),
            ..Limits::default()
        },
    }
}

/// What an engine in another process needs of a world.
pub async fn open_world(name: &str, master_key_file: &str) -> (EngineConfig, Arc<Toy>) {
    let pool = |part| PgPoolOptions::new().connect_lazy_with(postgres().database(&format!("{name}_{part}")));
    let keyring = Keyring::connect(pool("keys"), MasterKey::from_file(master_key_file).unwrap()).await.unwrap();
    (config(name, pool("log"), keyring), Toy::named("toy"))
}

pub async fn database(server: &PgConnectOptions, name: &str) -> PgPool {
    let admin = PgPoolOptions::new().max_connections(1).connect_with(server.clone()).await.unwrap();
    sqlx::query(&format!("create database \"{name}\"")).execute(&admin).await.unwrap();
    PgPoolOptions::new().max_connections(4).connect_with(server.clone().database(name)).await.unwrap()
}

impl World {
    pub async fn new(subjects: usize) -> Self {
        Self::with_models(subjects, &[Toy::named("toy")]).await
    }

    pub async fn with_models(subjects: usize, models: &[Arc<Toy>]) -> Self {
        // First of all: a process under test brings a recorder of its own, and there is one for each process.
        counters::install();
        words::listen();
        let name = format!("engine_{}", Uuid::new_v4().simple());
        let server = postgres();
        let log = database(&server, &format!("{name}_log")).await;
        let keys = database(&server, &format!("{name}_keys")).await;
        let read = database(&server, &format!("{name}_read")).await;
        migrate_log(&log, PARTITIONS).await.unwrap();
        migrate_keys(&keys).await.unwrap();
        let models: Vec<Arc<dyn ReadModel>> = models.iter().map(|model| model.clone() as Arc<dyn ReadModel>).collect();
        migrate_models(&read, &models).await.unwrap();
        let master_key_file = master_key_file(&name);
        MasterKey::generate_file(&master_key_file).unwrap();
        let keyring = Keyring::connect(keys.clone(), MasterKey::from_file(&master_key_file).unwrap()).await.unwrap();
        let subjects: Vec<Uuid> = (0..subjects).map(|_| Uuid::new_v4()).collect();
        keyring.ensure(&subjects).await.unwrap();
        let (kafka, topic) = (kafka(), topic(&name));
        create_topic(&kafka, &topic, PARTITIONS).await.unwrap();
        let producer = producer(&kafka);
        Self { name, log, read, keyring, keys, kafka, topic, subjects, history: Mutex::default(), producer, server }
    }

    pub fn config(&self) -> EngineConfig {
        config(&self.name, self.log.clone(), self.keyring.clone())
    }

    pub fn master_key_file(&self) -> PathBuf {
        master_key_file(&self.name)
    }

    /// What an operator has for versions.
    pub fn rebuild(&self, model: Arc<dyn ReadModel>, pace: Pace) -> Rebuild {
        let owner = self.server.clone().database(&format!("{}_read", self.name));
        Rebuild::new(&owner, LogReader::new(self.log.clone()), self.keyring.clone(), model, pace)
    }

    /// What an operator has for parked events.
    pub fn retry(&self, model: Arc<Toy>) -> Retry {
        Retry::new(&self.config().read_database, self.keyring.clone(), model, 1)
    }

    /// The URL of one of the databases, for a program that is started.
    pub fn url(&self, role: &str, part: &str) -> String {
        let server = self.server.get_host();
        format!("postgres://{role}@{server}:{}/{}_{part}", self.server.get_port(), self.name)
    }

    /// Writes events into the log, spread over the subjects, and answers them sealed.
    pub async fn append(&self, count: usize) -> Vec<SealedEvent> {
        let subjects: Vec<Uuid> = (0..count).map(|index| self.subjects[index * 7 % self.subjects.len()]).collect();
        self.append_for(&subjects).await
    }

    pub async fn append_for(&self, subjects: &[Uuid]) -> Vec<SealedEvent> {
        let mut heads: HashMap<i32, i64> = HashMap::new();
        for event in self.history.lock().unwrap().iter() {
            heads.insert(event.partition, event.position);
        }
        let keys = self.keyring.keys(subjects).await;
        let mut events = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let partition = partition_of(*subject, PARTITIONS);
            let position = heads.entry(partition).or_default();
            *position += 1;
            events.push(sealed(keys[subject].as_ref().unwrap(), partition, *position));
        }
        for chunk in events.chunks(500) {
            store(&self.log, chunk).await;
        }
        self.history.lock().unwrap().extend(events.iter().cloned());
        events
    }

    /// One more event of a subject whose key is gone: sealed before that, and written down after.
    pub async fn append_erased(&self, events: &[SealedEvent], subject: Uuid) -> SealedEvent {
        let mut event = events.iter().find(|event| event.header.subject == subject).unwrap().clone();
        event.position = self.head(event.partition) + 1;
        event.header.aggregate_id = Uuid::new_v4();
        store(&self.log, std::slice::from_ref(&event)).await;
        self.history.lock().unwrap().push(event.clone());
        event
    }

    /// Puts events into the topic, in order.
    pub async fn produce(&self, events: &[SealedEvent]) {
        self.produce_to(&self.topic, events).await;
    }

    pub async fn produce_to(&self, topic: &str, events: &[SealedEvent]) {
        let mut pending = Vec::with_capacity(events.len());
        for event in events {
            let key = record_key(event);
            let record = FutureRecord::to(topic).partition(event.partition).key(&key).payload(&event.sealed);
            pending.push(
                self.producer.send_result(record.headers(record_headers(event))).map_err(|(error, _)| error).unwrap(),
            );
        }
        for delivery in pending {
            delivery.await.unwrap().unwrap();
        }
    }

    pub async fn publish(&self, count: usize) -> Vec<SealedEvent> {
        let events = self.append(count).await;
        self.produce(&events).await;
        events
    }

    /// Puts something into the topic that is no event.
    pub async fn produce_garbage(&self, partition: i32) {
        let record = FutureRecord::<(), [u8]>::to(&self.topic).partition(partition).payload(b"garbage".as_slice());
        self.producer.send(record, PATIENCE).await.unwrap();
    }

    pub fn head(&self, partition: i32) -> i64 {
        let history = self.history.lock().unwrap();
        history.iter().filter(|event| event.partition == partition).map(|event| event.position).max().unwrap_or(0)
    }

    pub async fn positions(&self, model: &Toy) -> BTreeMap<i32, i64> {
        let rows: Vec<(i32, i64)> =
            sqlx::query_as("select partition, position from projection.checkpoints where read_model = $1 and served")
                .bind(model.name())
                .fetch_all(&self.read)
                .await
                .unwrap_or_default();
        rows.into_iter().collect()
    }

    pub async fn caught_up(&self, model: &Toy) -> bool {
        let positions = self.positions(model).await;
        (0..PARTITIONS).all(|partition| positions.get(&partition).copied().unwrap_or(0) == self.head(partition))
    }

    pub async fn wait_caught_up(&self, model: &Toy) {
        eventually("the read model catches up", || self.caught_up(model)).await;
    }

    /// The rows that a fold of the log gives, without the given positions.
    pub fn expected(&self, without: impl Fn(&SealedEvent) -> bool) -> BTreeMap<Uuid, (i64, String)> {
        let mut rows = BTreeMap::<Uuid, (i64, String)>::new();
        for event in self.history.lock().unwrap().iter().filter(|event| !without(event)) {
            let (count, trail) = rows.entry(event.header.subject).or_default();
            *count += 1;
            *trail = format!("{trail} {}", event.position);
        }
        rows
    }

    pub async fn rows(&self, model: &Toy) -> BTreeMap<Uuid, (i64, String)> {
        self.rows_in(model, 1).await
    }

    pub async fn rows_in(&self, model: &Toy, version: i32) -> BTreeMap<Uuid, (i64, String)> {
        let schema = schema_of(model.name(), version);
        let rows: Vec<(Uuid, i64, String)> =
            sqlx::query_as(&format!("select subject, events, trail from {schema}.tallies"))
                .fetch_all(&self.read)
                .await
                .unwrap();
        rows.into_iter().map(|(subject, events, trail)| (subject, (events, trail))).collect()
    }

    /// Every event once, in order.
    pub async fn assert_exact(&self, model: &Toy) {
        assert_same(&self.rows(model).await, &self.expected(|_| false));
    }

    /// Ends every connection that projectors have to the read database.
    pub async fn cut_read_connections(&self) -> i64 {
        sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid() and application_name like 'projector%'",
        )
        .fetch_one(&self.read)
        .await
        .unwrap()
    }

    /// Destroys the key of a subject.
    pub async fn erase(&self, subject: Uuid) {
        sqlx::query("update subject_keys set state = 'erased', wrapped = null where subject = $1")
            .bind(subject)
            .execute(&self.keys)
            .await
            .unwrap();
        self.keyring.forget(subject);
    }

    /// Removes what the test made.
    pub async fn gone(self) {
        let admin = PgPoolOptions::new().max_connections(1).connect_with(self.server.clone()).await.unwrap();
        for part in ["log", "keys", "read"] {
            let drop = format!("drop database if exists \"{}_{part}\" with (force)", self.name);
            sqlx::query(&drop).execute(&admin).await.unwrap();
        }
        std::fs::remove_file(self.master_key_file()).unwrap();
        delete_topic(&self.kafka, &self.topic).await;
    }
}

/// Removes all records that a topic has; what comes later goes on at the next offsets.
pub async fn delete_records(kafka: &str, topic: &str) {
    use rdkafka::admin::{AdminClient, AdminOptions};
    use rdkafka::{Offset, TopicPartitionList};
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", kafka).create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::End).unwrap();
    }
    let deleted = admin.delete_records(&list, &AdminOptions::new().operation_timeout(Some(PATIENCE))).await.unwrap();
    assert!(deleted.elements().iter().all(|element| element.error().is_ok()));
}

pub async fn delete_topic(kafka: &str, topic: &str) {
    use rdkafka::admin::{AdminClient, AdminOptions};
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", kafka).create().unwrap();
    admin.delete_topics(&[topic], &AdminOptions::new().operation_timeout(Some(PATIENCE))).await.unwrap();
}

#[track_caller]
pub fn assert_same(rows: &BTreeMap<Uuid, (i64, String)>, expected: &BTreeMap<Uuid, (i64, String)>) {
    assert!(!expected.is_empty(), "nothing was expected, so nothing is shown");
    let differing = expected.iter().filter(|(subject, row)| rows.get(subject) != Some(row)).count();
    if let Some((subject, row)) = expected.iter().find(|(subject, row)| rows.get(subject) != Some(row)) {
        panic!("{differing} subjects differ, such as {subject}: expected {row:?}, found {:?}", rows.get(subject));
    }
    assert_eq!(rows.len(), expected.len(), "subjects that should not be there");
}

fn producer(kafka: &str) -> FutureProducer {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", kafka).set("enable.idempotence", "true").set("linger.ms", "2");
    client.set("queue.buffering.max.messages", "1000000").create().unwrap()
}

fn sealed(key: &nexus_event_store::SubjectKey, partition: i32, position: i64) -> SealedEvent {
    let subject = key.subject();
    let id = Uuid::new_v4();
    let header = Header {
        aggregate_type: "Condition".to_owned(),
        aggregate_id: id,
        sequence: 1,
        subject,
        event_type: "Condition.Recorded".to_owned(),
        event_version: "1.0".to_owned(),
        key_id: key.id(),
        recorded_at: chrono::DateTime::from_timestamp_micros(Utc::now().timestamp_micros()).unwrap(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    };
    let resource = json!({
        "resourceType": "Condition", "id": id, "subject": {"reference": format!("Patient/{subject}")},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "38341003"}]},
        "clinicalStatus": {"coding": [{"code": "active"}]},
    });
    let opened = Opened {
        payload: json!({"Recorded": {"resource": resource, "notes": []}}),
        metadata: Metadata { actor: "test".to_owned(), ..Metadata::default() },
        source: None,
    };
    let sealed = envelope::seal(key, &header, &serde_json::to_vec(&opened).unwrap());
    SealedEvent { header, partition, position, sealed }
}

pub async fn store(log: &PgPool, events: &[SealedEvent]) {
    let mut insert = sqlx::QueryBuilder::new(
        "insert into events (partition, position, aggregate_type, aggregate_id, sequence, subject, event_type,
         event_version, key_id, recorded_at, traceparent, sealed) ",
    );
    insert.push_values(events, |mut row, event| {
        let header = &event.header;
        row.push_bind(event.partition).push_bind(event.position).push_bind(&header.aggregate_type);
        row.push_bind(header.aggregate_id.to_string()).push_bind(header.sequence).push_bind(header.subject);
        row.push_bind(&header.event_type).push_bind(&header.event_version).push_bind(header.key_id);
        row.push_bind(header.recorded_at).push_bind(&header.traceparent).push_bind(&event.sealed);
    });
    insert.build().execute(log).await.unwrap();
}

/// Polls until a condition holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Counts events per subject and writes down their positions in the order in which they came.
#[derive(Default)]
pub struct Toy {
    name: &'static str,
    /// Events that fail, by aggregate id, and how.
    pub poison: Mutex<HashMap<Uuid, Poison>>,
    pub delay: Mutex<Duration>,
    pub batches: AtomicU64,
    pub forgotten: Mutex<HashSet<Uuid>>,
}

#[derive(Clone, Copy)]
pub enum Poison {
    Code,
    Database,
    Panic,
}

impl Toy {
    pub fn named(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, ..Self::default() })
    }
}

#[async_trait]
impl ReadModel for Toy {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> i32 {
        1
    }

    fn schema_sql(&self) -> &'static str {
        "create table tallies (subject uuid primary key, events bigint not null, trail text not null)"
    }

    fn wants(&self, aggregate_type: &str) -> bool {
        aggregate_type == "Condition"
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], _: &Keyring) -> Result<(), ApplyError> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        let delay = *self.delay.lock().unwrap();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut tallies = BTreeMap::<Uuid, (i64, String)>::new();
        for event in events {
            let (count, trail) = tallies.entry(event.subject).or_default();
            *count += 1;
            *trail = format!("{trail} {}", event.position);
        }
        let (subjects, tallies): (Vec<Uuid>, Vec<(i64, String)>) = tallies.into_iter().unzip();
        let (counts, trails): (Vec<i64>, Vec<String>) = tallies.into_iter().unzip();
        sqlx::query(
            "insert into tallies as known select * from unnest($1::uuid[], $2::bigint[], $3::text[])
             on conflict (subject) do update
             set events = known.events + excluded.events, trail = known.trail || excluded.trail",
        )
        .bind(subjects)
        .bind(counts)
        .bind(trails)
        .execute(&mut *tx)
        .await?;
        // After the rows, so that what a failing batch has written must be undone.
        let poison = events.iter().find_map(|event| self.poison.lock().unwrap().get(&event.aggregate_id).copied());
        match poison {
            None => Ok(()),
            Some(Poison::Code) => Err(ApplyError::Event("toy.poison")),
            Some(Poison::Database) => Ok(sqlx::query("select 1 / 0").execute(tx).await.map(drop)?),
            Some(Poison::Panic) => panic!("a read model panics"),
        }
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, _: &Keyring) -> Result<u64, ApplyError> {
        self.forgotten.lock().unwrap().insert(subject);
        let deleted = sqlx::query("delete from tallies where subject = $1").bind(subject).execute(tx).await?;
        Ok(deleted.rows_affected())
    }
}
