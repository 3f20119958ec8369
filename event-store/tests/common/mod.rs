//! A world of its own for each test: fresh databases and a fresh topic on the servers that the environment names.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use nexus_event_store::relay::{Relay, RelayConfig};
use nexus_event_store::sabotage::{Safeguard, is_off};
use nexus_event_store::{
    Append, Claim, ClaimRules, Claimed, EventLog, Expectation, IdempotencyKey, Keyring, LogConfig, LogReader,
    MasterKey, Metadata, NewEvent, Outcome, Receipt, ReleaseClaim, SealedEvent, StoredEvent, TakeClaim, kafka,
    migrate_keys, migrate_log,
};
use serde_json::json;
use serde_json::value::to_raw_value;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const PARTITIONS: i32 = 12;
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Payloads of these tests say in so many words what their event does to claims.
pub const RULES: ClaimRules = ClaimRules { aggregate_types: &["Patient"], claimed };

fn claimed(_: &str, events: Vec<StoredEvent>) -> Result<Claimed, Box<dyn std::error::Error + Send + Sync>> {
    let mut claimed = Claimed::default();
    for event in events {
        if let Some(value) = event.payload["take"].as_str() {
            claimed.held.push(claim("mrn", value));
        }
        if let Some(value) = event.payload["release"].as_str() {
            claimed.held.retain(|held| held.value != value);
            claimed.given_up.push(claim("mrn", value));
        }
    }
    Ok(claimed)
}

pub fn claim(kind: &str, value: &str) -> Claim {
    Claim { kind: kind.into(), value: value.into() }
}

pub fn take(kind: &str, value: &str, holder_id: Uuid) -> TakeClaim {
    TakeClaim { claim: claim(kind, value), holder_type: "Patient".into(), holder_id }
}

pub fn release(kind: &str, value: &str, holder_id: Uuid) -> ReleaseClaim {
    ReleaseClaim { claim: claim(kind, value), holder_type: "Patient".into(), holder_id }
}

pub struct World {
    pub topic: String,
    pub kafka: String,
    pub master: MasterKey,
    server: PgConnectOptions,
    log: String,
    keys: String,
}

impl World {
    pub async fn new() -> Self {
        let server: PgConnectOptions = var("NEXUS_TEST_POSTGRES").parse().unwrap();
        let id = Uuid::new_v4().simple().to_string();
        let world = Self {
            topic: format!("test.events.{id}"),
            kafka: var("NEXUS_TEST_KAFKA"),
            master: MasterKey::random(),
            server,
            log: format!("test_log_{id}"),
            keys: format!("test_keys_{id}"),
        };
        let mut admin = PgConnection::connect_with(&world.server).await.unwrap();
        for database in [&world.log, &world.keys] {
            admin.execute(&*format!("create database {database}")).await.unwrap();
        }
        migrate_log(&world.owner(), PARTITIONS).await.unwrap();
        sabotage(&world.owner()).await;
        migrate_keys(&world.pool(&world.keys, None)).await.unwrap();
        kafka::create_topic(&world.kafka, &world.topic, PARTITIONS).await.unwrap();
        world
    }

    fn pool(&self, database: &str, role: Option<&str>) -> PgPool {
        let mut options = self.server.clone().database(database);
        if let Some(role) = role {
            options = options.username(role);
        }
        PgPoolOptions::new().max_connections(6).connect_lazy_with(options)
    }

    /// The log as its owner, who in these tests is a superuser.
    pub fn owner(&self) -> PgPool {
        self.pool(&self.log, None)
    }

    pub fn keys_owner(&self) -> PgPool {
        self.pool(&self.keys, None)
    }

    /// The log as one of the services' roles.
    pub fn log_as(&self, role: &str) -> PgPool {
        self.pool(&self.log, Some(role))
    }

    pub fn keys_as(&self, role: &str) -> PgPool {
        self.pool(&self.keys, Some(role))
    }

    pub fn log_database(&self) -> &str {
        &self.log
    }

    pub async fn keyring(&self) -> Keyring {
        Keyring::connect(self.keys_as("nexus_command"), self.master.clone()).await.unwrap()
    }

    /// An event log as a process of its own would have it: with its own writer and keyring, as nexus_command.
    pub async fn event_log(&self) -> EventLog {
        EventLog::connect(LogConfig {
            log_pool: self.log_as("nexus_command"),
            keyring: self.keyring().await,
            kafka: (&self.kafka).into(),
            topic: self.topic.clone(),
            partitions: Some(PARTITIONS),
            claims: RULES,
        })
        .await
        .unwrap()
    }

    /// A relay as nexus_relay, with a short lease.
    pub fn relay(&self) -> RunningRelay {
        let config = RelayConfig { lease: Duration::from_secs(2), ..self.relay_config() };
        let stop = CancellationToken::new();
        let task = tokio::spawn(Relay::try_new(config).unwrap().run(stop.clone()));
        RunningRelay { stop, task }
    }

    pub fn relay_config(&self) -> RelayConfig {
        RelayConfig::new(self.log_as("nexus_relay"), &self.kafka, &self.topic)
    }

    /// Every event of the log by partition, in order, with the gaplessness of positions asserted.
    pub async fn everything(&self) -> Vec<Vec<SealedEvent>> {
        let reader = LogReader::new(self.owner());
        let mut all = Vec::new();
        for partition in 0..PARTITIONS {
            let mut events: Vec<SealedEvent> = Vec::new();
            loop {
                let after = events.last().map_or(0, |event| event.position);
                let more = reader.range(partition, after, 700).await.unwrap();
                if more.is_empty() {
                    break;
                }
                events.extend(more);
            }
            for (position, event) in (1..).zip(&events) {
                assert_eq!(event.position, position, "a gap in partition {partition}");
            }
            all.push(events);
        }
        all
    }

    pub async fn drop(self) {
        let mut admin = PgConnection::connect_with(&self.server).await.unwrap();
        for database in [&self.log, &self.keys] {
            admin.execute(&*format!("drop database if exists {database} with (force)")).await.unwrap();
        }
    }
}

pub struct RunningRelay {
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
}

impl RunningRelay {
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// As a kill would: nothing is given up, nothing is finished.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// What the safeguards are in `append_batch`, and what the mutation check puts in their place.
const SAFEGUARDS_IN_SQL: [(Safeguard, &str, &str); 3] = [
    (
        Safeguard::HeadLock,
        "perform from heads where partition = any (lock_partitions) order by partition for update;",
        "null;",
    ),
    (Safeguard::IdempotencyRow, "join idempotency i on i.key = c.key", "join idempotency i on false"),
    (Safeguard::IdempotencyRow, "from answered a where a.key is not null", "from answered a where false"),
];

/// Switches a safeguard off in this test's own append function, if the mutation check asks for it.
async fn sabotage(owner: &PgPool) {
    for (_, safeguard, instead) in SAFEGUARDS_IN_SQL.iter().filter(|(safeguard, ..)| is_off(*safeguard)) {
        let function: String =
            sqlx::query_scalar("select pg_get_functiondef('append_batch'::regproc)").fetch_one(owner).await.unwrap();
        assert_eq!(function.matches(safeguard).count(), 1, "the append function no longer reads: {safeguard}");
        owner.execute(&*function.replace(safeguard, instead)).await.unwrap();
    }
}

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by ./nexus test"))
}

/// Waits for a condition, never for a fixed time.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let deadline = Instant::now() + DEADLINE;
    while !check().await {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn event(aggregate_type: &str, aggregate_id: Uuid, sequence: i64, subject: Uuid) -> NewEvent {
    NewEvent {
        aggregate_type: aggregate_type.into(),
        aggregate_id,
        sequence,
        subject,
        event_type: format!("{aggregate_type}.Recorded"),
        event_version: "1.0".into(),
        source: None,
        payload: to_raw_value(
            &json!({"Recorded": {"resource": {"note": "a secret about the patient", "n": sequence}}}),
        )
        .unwrap(),
    }
}

/// An append of these events, with the expectations that they need.
pub fn append(events: Vec<NewEvent>) -> Append {
    let mut expect: Vec<Expectation> = Vec::new();
    for event in &events {
        let known = expect.iter().any(|known| {
            matches!(known, Expectation::Stream { aggregate_type, aggregate_id, .. }
            if *aggregate_type == event.aggregate_type && *aggregate_id == event.aggregate_id)
        });
        if !known {
            expect.push(Expectation::Stream {
                aggregate_type: event.aggregate_type.clone(),
                aggregate_id: event.aggregate_id,
                sequence: event.sequence - 1,
            });
        }
    }
    Append {
        idempotency: None,
        response: json!({"status": 201}),
        expect,
        take: vec![],
        release: vec![],
        events,
        metadata: Metadata { actor: "nurse-1".into(), roles: vec!["nurse".into()], request_id: "r-1".into() },
        traceparent: None,
    }
}

/// The first event of a new aggregate of a new subject.
pub fn registration() -> Append {
    let id = Uuid::new_v4();
    append(vec![event("Patient", id, 1, id)])
}

pub fn key(key: &str, fingerprint: u8) -> IdempotencyKey {
    IdempotencyKey { actor: "nurse-1".into(), key: key.into(), fingerprint: [fingerprint; 32] }
}

#[track_caller]
pub fn appended(outcome: Outcome) -> Receipt {
    match outcome {
        Outcome::Appended(receipt) => receipt,
        other => panic!("not appended: {other:?}"),
    }
}

/// Appends `count` registrations, many at a time.
pub async fn register_many(log: &EventLog, count: usize) {
    let log = Arc::new(log.clone());
    let tasks = (0..count).map(|_| {
        let log = log.clone();
        async move { appended(log.append(registration()).await.unwrap()) }
    });
    futures::stream::StreamExt::collect::<Vec<_>>(futures::stream::StreamExt::buffer_unordered(
        futures::stream::iter(tasks),
        64,
    ))
    .await;
}
