//! Reading one's own write, all the way: append, relay, Kafka, engine, read door.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use nexus_auth::Role;
use nexus_event_store::relay::{Relay, RelayConfig};
use nexus_event_store::{Append, ClaimRules, EventLog, Expectation, LogConfig, LogReader, Metadata, NewEvent, Outcome};
use nexus_projections::engine::rebuild::{Pace, Rebuild};
use nexus_projections::engine::{Engine, EngineConfig, GroupProtocol, Limits};
use nexus_projections::read_models;
use nexus_testkit::{TestDatabase, TestTopic, kafka_address};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::chart::condition;
use crate::world::{Answer, World, patient};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The way from an append to the rows.
pub struct Pipeline {
    log: EventLog,
    engine: Engine,
    stop: CancellationToken,
    database: TestDatabase,
    _topic: TestTopic,
}

impl Pipeline {
    pub async fn start(world: &World) -> Self {
        let (database, topic) = (TestDatabase::log().await, TestTopic::create().await);
        let log = EventLog::connect(LogConfig {
            log_pool: database.pool().await,
            keyring: world.keyring.clone(),
            kafka: kafka_address().into(),
            topic: topic.name().to_owned(),
            partitions: None,
            claims: ClaimRules::NONE,
        });
        let log = log.await.unwrap();
        let stop = CancellationToken::new();
        let relay = Relay::try_new(RelayConfig::new(database.pool().await, kafka_address(), topic.name())).unwrap();
        tokio::spawn(relay.run(stop.clone()));
        let config = EngineConfig {
            kafka: kafka_address().into(),
            topic: topic.name().to_owned(),
            group_prefix: format!("{}.", topic.name()),
            group_protocol: GroupProtocol::default(),
            group_instance: None,
            read_database: world.read_database.url("nexus_projector").parse().unwrap(),
            log: LogReader::new(database.pool().await),
            keyring: world.keyring.clone(),
            owner: "test".to_owned(),
            limits: Limits::default(),
        };
        let engine = Engine::start(&config, read_models());
        Self { log, engine, stop, database, _topic: topic }
    }

    /// Appends the first event of a resource; the position token.
    pub async fn append(&self, subject: Uuid, aggregate_type: &str, event: &str, resource: Value) -> String {
        let id: Uuid = resource["id"].as_str().unwrap().parse().unwrap();
        let event = NewEvent {
            aggregate_type: aggregate_type.to_owned(),
            aggregate_id: id,
            sequence: 1,
            subject,
            event_type: format!("{aggregate_type}.{event}"),
            event_version: "2.0".to_owned(),
            source: None,
            payload: to_raw_value(&json!({event: {"resource": resource, "notes": []}})).unwrap(),
        };
        let append = Append {
            idempotency: None,
            response: Value::Null,
            expect: vec![Expectation::Stream {
                aggregate_type: aggregate_type.to_owned(),
                aggregate_id: id,
                sequence: 0,
            }],
            take: Vec::new(),
            release: Vec::new(),
            events: vec![event],
            metadata: Metadata::default(),
            traceparent: None,
        };
        match self.log.append(append).await.unwrap() {
            Outcome::Appended(receipt) => receipt.token(),
            _ => panic!("the append was refused"),
        }
    }

    pub async fn stop(self) {
        self.engine.stop().await;
        self.stop.cancel();
    }
}

/// Asks until the read model has seen the position: its consumer may still be joining its group, and one question waits
/// for a few seconds only.
async fn seen(world: &World, token: &str, path: &str) -> Answer {
    let began = Instant::now();
    loop {
        let answer = world.get_with(token, path, &[]).await;
        if answer.status != StatusCode::SERVICE_UNAVAILABLE {
            return answer;
        }
        assert_eq!(answer.problem(), "read-model-behind");
        assert!(began.elapsed() < PATIENCE, "{path} is never seen");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_a_position_sees_the_write_in_every_read_model() {
    let world = World::new().await;
    let mut pipeline = Pipeline::start(&world).await;
    let id = Uuid::new_v4();
    let token = pipeline.append(id, "Patient", "Registered", patient(id, "Cormier", "Chi", "1959-07-30")).await;
    world.take_into_care(id).await;
    let nurse = world.issuer.token(Role::Nurse);
    let asked = format!("/v1/patients?name=cormier&position={token}");
    assert_eq!(seen(&world, &nurse, &asked).await.items().len(), 1);
    for round in 0..20 {
        let problem = condition(Uuid::new_v4(), id, &format!("{round}"), "active", "2020-01-01");
        let problem_id = problem["id"].as_str().unwrap().to_owned();
        let token = pipeline.append(id, "Condition", "Recorded", problem).await;
        let path = format!("/v1/patients/{id}/chart?section=problems&position={token}");
        let chart = seen(&world, &nurse, &path).await.json();
        assert_eq!(chart["sections"][0]["items"].as_array().unwrap().len(), round + 1);
        let fhir = seen(&world, &nurse, &format!("/fhir/Condition/{problem_id}?position={token}")).await;
        assert_eq!(fhir.status, StatusCode::OK);
        let timeline = seen(&world, &nurse, &format!("/v1/patients/{id}/timeline?position={token}")).await;
        assert_eq!(timeline.items().len(), round + 2);
    }
    let lags = world.get(Role::Operator, "/v1/read-models").await.items();
    assert!(lags.iter().any(|lag| lag["readModel"] == "timeline" && lag["position"].as_i64() == Some(21)), "{lags:?}");

    // One read model stops: what it serves falls behind and says so, the others go on.
    pipeline.engine.stop_one("timeline").await;
    let problem = condition(Uuid::new_v4(), id, "last", "active", "2020-01-01");
    let token = pipeline.append(id, "Condition", "Recorded", problem).await;
    let impatient = [("nexus-position", token.as_str()), ("nexus-wait-ms", "300")];
    let behind = world.get_with(&nurse, &format!("/v1/patients/{id}/timeline"), &impatient).await;
    assert_eq!((behind.status, behind.problem().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "read-model-behind"));
    assert_eq!(behind.headers["retry-after"], "1");
    let without_waiting = world.get_with(&nurse, &format!("/v1/patients/{id}/timeline"), &[]).await;
    assert_eq!(without_waiting.items().len(), 21);
    let chart = seen(&world, &nurse, &format!("/v1/patients/{id}/chart?section=problems&position={token}")).await;
    assert_eq!(chart.json()["sections"][0]["items"].as_array().unwrap().len(), 21);
    pipeline.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_served_while_readers_go_on() {
    let world = World::new().await;
    let pipeline = Pipeline::start(&world).await;
    let id = Uuid::new_v4();
    let token = pipeline.append(id, "Patient", "Registered", patient(id, "Cormier", "Chi", "1959-07-30")).await;
    world.take_into_care(id).await;
    let nurse = world.issuer.token(Role::Nurse);
    let paths = [format!("/v1/patients/{id}/timeline"), format!("/v1/patients/{id}/chart?section=problems")];
    for path in &paths {
        let first = format!("{path}{}position={token}", if path.contains('?') { '&' } else { '?' });
        assert_eq!(seen(&world, &nurse, &first).await.status, StatusCode::OK);
    }
    let owner: PgConnectOptions = world.read_database.url("postgres").parse().unwrap();
    let stop = CancellationToken::new();
    // The nurse's relation to the patient is not from the log, but put there for this test.
    let switched = || read_models().into_iter().filter(|model| model.name() != "access_grants");
    let switching = async {
        for model in switched() {
            let log = LogReader::new(pipeline.database.pool().await);
            let rebuild = Rebuild::new(&owner, log, world.keyring.clone(), model, Pace::default());
            let running = rebuild.begin().await.unwrap();
            running.fill(&stop, |_| {}).await.unwrap();
            running.switch(&stop).await.unwrap();
        }
    };
    // Each reader sees its own writes, and never fewer than before, whichever version answers.
    let reading = async {
        let mut written = 0;
        while !stop.is_cancelled() {
            let problem = condition(Uuid::new_v4(), id, &format!("{written}"), "active", "2020-01-01");
            let token = pipeline.append(id, "Condition", "Recorded", problem).await;
            written += 1;
            let headers = [("nexus-position", token.as_str())];
            let timeline = world.get_with(&nurse, &paths[0], &headers).await;
            assert_eq!(timeline.items().len(), (written + 1).min(50), "after {written} writes");
            let chart = world.get_with(&nurse, &paths[1], &headers).await;
            assert_eq!(chart.status, StatusCode::OK, "after {written} writes: {}", chart.json());
        }
        written
    };
    let ((), written) = tokio::join!(
        async {
            switching.await;
            stop.cancel()
        },
        reading
    );
    assert!(written > 10, "only {written} writes");
    let lags = world.get(Role::Operator, "/v1/read-models").await.items();
    for model in switched() {
        let next = i64::from(model.version()) + 1;
        let of_model = |lag: &&Value| lag["readModel"] == model.name();
        assert!(lags.iter().filter(of_model).all(|lag| lag["version"] == next), "{} is not switched", model.name());
    }
    pipeline.stop().await;
}

#[tokio::test]
async fn what_is_no_position_is_refused() {
    let world = World::new().await;
    let nurse = world.issuer.token(Role::Nurse);
    for headers in [[("nexus-position", "x")], [("nexus-position", "1-")], [("nexus-wait-ms", "soon")]] {
        let answer = world.get_with(&nurse, "/v1/census", &headers).await;
        assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::BAD_REQUEST, "invalid-parameter"));
    }
    // Nothing was ever written there.
    let headers = [("nexus-position", "3-1"), ("nexus-wait-ms", "1")];
    assert_eq!(world.get_with(&nurse, "/v1/census", &headers).await.problem(), "read-model-behind");
}

#[tokio::test]
async fn a_door_serves_and_waits_for_the_version_that_it_was_built_with() {
    let world = World::new().await;
    let nurse = world.issuer.token(Role::Nurse);
    let ready = async || {
        let request = Request::get("/readyz").body(Body::empty()).unwrap();
        world.send(request).await.status == StatusCode::OK
    };
    assert!(ready().await);
    // Another version has seen the write, and is switched to.
    for statement in [
        "insert into projection.checkpoints (read_model, version, partition, position, epoch, owner)
         values ('ward_census', 3, 3, 1, 1, 'test'), ('ward_census', 2, 3, 0, 1, 'test')",
        "update projection.versions set active_version = 3 where read_model = 'ward_census'",
    ] {
        sqlx::query(statement).execute(&world.read).await.unwrap();
    }
    assert!(!ready().await, "its tables are not the ones that are switched to");
    let headers = [("nexus-position", "3-1"), ("nexus-wait-ms", "1")];
    assert_eq!(world.get_with(&nurse, "/v1/census", &headers).await.problem(), "read-model-behind");
    for statement in [
        "update projection.checkpoints set position = 1 where version = 2",
        "update projection.versions set active_version = 2 where read_model = 'ward_census'",
    ] {
        sqlx::query(statement).execute(&world.read).await.unwrap();
    }
    assert!(ready().await);
    let after = [("nexus-position", "3-1")];
    assert_eq!(world.get_with(&nurse, "/v1/census", &after).await.status, StatusCode::OK);
}
