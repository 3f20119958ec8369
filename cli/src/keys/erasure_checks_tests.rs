//! Each place where a patient could still be, with the patient still in it.

use nexus_event_store::relay::{Relay, RelayConfig};
use nexus_event_store::{
    Append, ClaimRules, Erasure, EventLog, Expectation, LogConfig, MasterKey, Metadata, NewEvent, Outcome,
};
use nexus_projections::schema_of;
use nexus_testkit::{TestDatabase, TestTopic, kafka_address};
use serde_json::json;
use serde_json::value::to_raw_value;
use sqlx::Executor;
use tokio_util::sync::CancellationToken;

use super::*;

const DEADLINE: Duration = Duration::from_secs(30);

struct World {
    log: TestDatabase,
    keys: TestDatabase,
    read: TestDatabase,
    topic: TestTopic,
    keyring: Keyring,
    events: EventLog,
}

impl World {
    async fn start() -> Self {
        let (log, keys, read) = (TestDatabase::log().await, TestDatabase::keys().await, TestDatabase::read().await);
        let topic = TestTopic::create().await;
        let keyring = Keyring::connect(keys.pool().await, MasterKey::random()).await.unwrap();
        let config = LogConfig {
            log_pool: log.pool().await,
            keyring: keyring.clone(),
            kafka: kafka_address().into(),
            topic: topic.name().to_owned(),
            partitions: None,
            claims: ClaimRules::NONE,
        };
        let events = EventLog::connect(config).await.unwrap();
        Self { log, keys, read, topic, keyring, events }
    }

    async fn append(&self, event_type: &str, (id, sequence): (Uuid, i64), subject: Uuid) -> Vec<(i32, i64)> {
        let aggregate_type = event_type.split('.').next().unwrap().to_owned();
        let append = Append {
            idempotency: None,
            response: json!({}),
            expect: vec![Expectation::Stream {
                aggregate_type: aggregate_type.clone(),
                aggregate_id: id,
                sequence: sequence - 1,
            }],
            take: vec![],
            release: vec![],
            events: vec![NewEvent {
                aggregate_type,
                aggregate_id: id,
                sequence,
                subject,
                event_type: event_type.to_owned(),
                event_version: "1.0".to_owned(),
                source: None,
                payload: to_raw_value(&json!({})).unwrap(),
            }],
            metadata: Metadata::default(),
            traceparent: None,
        };
        match self.events.append(append).await.unwrap() {
            Outcome::Appended(receipt) => receipt.positions,
            other => panic!("{other:?}"),
        }
    }

    /// What the checks of all stores say is wrong.
    async fn wrong(&self, erased: &Erased) -> Vec<String> {
        let mut checks = log(&self.log.pool().await, erased).await.unwrap();
        checks.extend(keys(&self.keys.pool().await, &self.keyring, erased).await.unwrap());
        checks.extend(read_models(&self.read.pool().await, &self.keyring, erased).await.unwrap());
        checks.push(kafka(&kafka_address(), self.topic.name(), &self.keyring, erased).await.unwrap());
        assert!(checks.len() > 7);
        checks.into_iter().filter(|check| !check.ok).map(|check| format!("{}: {}", check.store, check.found)).collect()
    }
}

async fn on(database: &TestDatabase, statement: &str) {
    let change = format!("set session_replication_role = replica; {statement}; set session_replication_role = default");
    database.pool().await.execute(change.as_str()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_left_is_found() {
    let world = World::start().await;
    let (id, condition) = (Uuid::new_v4(), Uuid::new_v4());
    assert!(Erased::find(&world.log.pool().await, id).await.unwrap().is_none());
    world.append("Patient.Registered", (id, 1), id).await;
    world.append("Condition.Recorded", (condition, 1), id).await;
    let positions = world.append(ERASED, (id, 2), id).await;
    let relay = RelayConfig::new(world.log.pool_as("nexus_relay").await, kafka_address(), world.topic.name());
    let stop = CancellationToken::new();
    let relay = tokio::spawn(Relay::try_new(relay).unwrap().run(stop.clone()));
    assert!(world.events.wait_published(&positions, DEADLINE).await.unwrap());
    let erased = Erased::find(&world.log.pool().await, id).await.unwrap().unwrap();
    let wrong = world.wrong(&erased).await;
    assert!(wrong.iter().any(|it| it.starts_with("nexus_keys: 1 left of 1")), "the key is still there: {wrong:?}");
    assert!(wrong.contains(&"kafka: 3 of 3".to_owned()), "and opens the records: {wrong:?}");

    let event = world.events.erasure_of(id).await.unwrap().unwrap();
    let erasure = Erasure {
        subject: id,
        key_id: event.header.key_id,
        event_id: erased.event_id,
        partition: event.partition,
        position: event.position,
        requested_by: None,
        requested_at: None,
        approved_by: None,
        approved_at: None,
        snapshots: 0,
        claims: 0,
    };
    world.keyring.erase(&erasure).await.unwrap();
    assert_eq!(world.wrong(&erased).await, Vec::<String>::new());

    let schema = |name: &str| {
        let model = nexus_projections::read_models().into_iter().find(|it| it.name() == name).unwrap();
        schema_of(model.name(), model.version())
    };
    let member = hex::encode(member_of(&world.keyring, id));
    let left = [
        format!("insert into {}.patients values ('{id}', 1)", schema("vital_signs")),
        format!("insert into {}.people values ('{id}', 1, '')", schema("appointments")),
        format!(
            "insert into {}.calendars values ('{id}', now(), null, '{condition}', '{}')",
            schema("appointments"),
            Uuid::nil()
        ),
        format!(
            "insert into {}.members values ('\\x{member}', 1, null, null, null, false, false)",
            schema("population")
        ),
        format!(
            "insert into projection.parked values ('toy', 1, 0, 1, '{id}', 'Patient', '{id}', 1, '', '', '{id}', now(), null, '', '', 1)"
        ),
    ];
    for row in left {
        on(&world.read, &row).await;
        let wrong = world.wrong(&erased).await;
        assert!(wrong.len() == 1 && wrong[0].starts_with("nexus_read: 1 in"), "{row}: {wrong:?}");
        let table = row.split(' ').nth(2).unwrap();
        on(&world.read, &format!("delete from {table}")).await;
    }
    on(&world.log, &format!("insert into snapshots values ('Patient', '{id}', 1, '{id}', '')")).await;
    on(&world.log, &format!("insert into claims values ('x', 'mrn', 'Patient', '{id}', 0, now())")).await;
    assert_eq!(world.wrong(&erased).await, ["nexus_log: 1", "nexus_log: 1"]);
    on(&world.log, "delete from snapshots; delete from claims").await;
    on(&world.keys, "update erasures set approved_by = 'nobody'").await;
    assert_eq!(world.wrong(&erased).await.len(), 1, "the record was changed");

    let said = json!({"subject": id, "eventId": erased.event_id, "position": erased.position, "complete": true});
    assert!(receipt(&world.keyring, &erased, &world.keyring.sign_receipt(&said)).ok);
    let of_another =
        json!({"subject": condition, "eventId": erased.event_id, "position": erased.position, "complete": true});
    assert!(!receipt(&world.keyring, &erased, &world.keyring.sign_receipt(&of_another)).ok);
    assert!(!receipt(&world.keyring, &erased, "forged").ok);
    stop.cancel();
    relay.await.unwrap();
}
