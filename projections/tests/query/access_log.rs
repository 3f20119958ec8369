//! Who looked at whose data: recorded before it is shown, and told to those who may know.

use std::time::Duration;

use axum::http::StatusCode;
use nexus_access_log::{AGGREGATE_TYPE, Batch, EVENT_TYPE, Recorder};
use nexus_auth::Role;
use nexus_event_store::relay::{Pace, Relay, RelayConfig};
use nexus_event_store::{
    ACCESS_SCHEMA, Append, ClaimRules, EventLog, Expectation, LogConfig, LogReader, Metadata, NewEvent, Outcome,
    envelope, in_schema, migrate_access_log,
};
use nexus_projections::access_log::AccessLog;
use nexus_projections::engine::{Engine, EngineConfig, GroupProtocol, Limits};
use nexus_projections::query_api::QueryService;
use nexus_projections::{ReadModel, read_models};
use nexus_testkit::{TestDatabase, TestTopic, kafka_address};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{Answer, PARTITIONS, World, config, patient};

const PATIENCE: Duration = Duration::from_secs(60);

/// A read door that records, the log it records in, a relay, and a projector of the access log.
pub struct AccessWorld {
    pub world: World,
    pub log: TestDatabase,
    pub topic: TestTopic,
    engine: Option<Engine>,
    relay: JoinHandle<()>,
    stop: CancellationToken,
}

impl AccessWorld {
    pub async fn new() -> Self {
        let (mut world, log, topic) = (World::new().await, TestDatabase::log().await, TestTopic::create().await);
        let stop = CancellationToken::new();
        let relay_pool = pool(&log, "nexus_relay");
        let relay =
            RelayConfig { pace: Pace::Gathering, ..RelayConfig::new(relay_pool, kafka_address(), topic.name()) };
        let relay = tokio::spawn(Relay::try_new(relay).unwrap().run(stop.clone()));
        let engine = Engine::start(&engine_config(&world, &log, &topic), vec![std::sync::Arc::new(AccessLog)]);
        let as_query: PgConnectOptions = world.read_database.url("nexus_query").parse().unwrap();
        let service =
            QueryService::new(&as_query, &config(&world.issuer), world.keyring.clone(), world.issuer.verifier().await);
        let log_url = log.url("nexus_query").parse().unwrap();
        let recorder = Recorder::connect(log_url, kafka_address(), topic.name().to_owned(), world.keyring.clone());
        world.door = service.recording(recorder.await.unwrap()).router(&CancellationToken::new());
        Self { world, log, topic, engine: Some(engine), relay, stop }
    }

    /// The accesses that the read model has, once there are `count` and each is completed.
    pub async fn completed(&self, count: i64) {
        let sql = "select count(*), count(outcome) from access_log_v1.accesses where opened_at is not null";
        nexus_testkit::eventually(&format!("{count} accesses"), PATIENCE, async || {
            let found: (i64, i64) = sqlx::query_as(sql).fetch_one(&self.world.read).await.unwrap();
            assert!(found.0 <= count, "{found:?} are more than {count}");
            (found == (count, count)).then_some(())
        })
        .await;
    }

    pub async fn audit(&self, path: &str) -> Answer {
        self.world.get(Role::Auditor, path).await
    }

    /// The accesses of a list, without the very request that asked: the log may know it already.
    pub async fn others(&self, path: &str) -> Vec<Value> {
        let answer = self.audit(path).await;
        let own = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        answer.items().into_iter().filter(|it| it["id"] != own.as_str()).collect()
    }

    pub async fn end(mut self) {
        self.stop.cancel();
        self.engine.take().unwrap().stop().await;
        (&mut self.relay).await.unwrap();
    }
}

fn pool(log: &TestDatabase, role: &str) -> PgPool {
    PgPoolOptions::new().connect_lazy_with(in_schema(log.url(role).parse().unwrap(), ACCESS_SCHEMA))
}

fn engine_config(world: &World, log: &TestDatabase, topic: &TestTopic) -> EngineConfig {
    EngineConfig {
        kafka: kafka_address().into(),
        topic: topic.name().to_owned(),
        group_prefix: format!("{}.", topic.name()),
        group_protocol: GroupProtocol::default(),
        group_instance: None,
        read_database: world.read_database.url("nexus_projector").parse().unwrap(),
        log: LogReader::new(pool(log, "nexus_projector")),
        keyring: world.keyring.clone(),
        owner: "test".to_owned(),
        limits: Limits { backoff_min: Duration::from_millis(10), ..Limits::default() },
    }
}

/// Everything that the log holds, opened.
pub async fn payloads(world: &World, log: &TestDatabase) -> Vec<Value> {
    let reader = LogReader::new(pool(log, "nexus_projector"));
    let mut payloads = Vec::new();
    for partition in 0..PARTITIONS {
        for event in reader.range(partition, 0, 1_000).await.unwrap() {
            let key = world.keyring.key_of(&event.header).await.unwrap();
            payloads.push(envelope::open_event(&key, &event).unwrap().payload);
        }
    }
    payloads
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_access_leaves_one_record() {
    let access = AccessWorld::new().await;
    let (world, id, other) = (&access.world, Uuid::new_v4(), Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30"), patient(other, "Cormier", "Lea", "1984-01-02")]).await;
    let stranger = world.issuer.patient_token(other);
    let headers = [("nexus-purpose", "ETREAT")];
    let nurse = world.issuer.token(Role::Nurse);

    let read = world.get_with(&nurse, &format!("/v1/patients/{id}/chart"), &headers).await;
    assert_eq!(read.status, StatusCode::OK);
    assert_eq!(world.get(Role::Physician, "/v1/patients?name=cormier&limit=7").await.items().len(), 2);
    assert_eq!(world.get(Role::Physician, &format!("/fhir/Patient/{id}")).await.status, StatusCode::OK);
    assert_eq!(world.get(Role::Analyst, &format!("/v1/patients/{id}/chart")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.get_with(&stranger, &format!("/v1/patients/{id}/chart"), &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.get(Role::Nurse, "/v1/patients?smith=x").await.status, StatusCode::BAD_REQUEST);
    // What watches the platform knows no patient, and who is nobody has had no access.
    assert_eq!(world.get(Role::Operator, "/v1/read-models").await.status, StatusCode::OK);
    assert_eq!(world.get_with("no-token", "/v1/census", &[]).await.status, StatusCode::UNAUTHORIZED);
    access.completed(6).await;

    let items = access.others(&format!("/v1/patients/{id}/accesses")).await;
    let told = |field: &str| items.iter().map(|it| it[field].clone()).collect::<Vec<_>>();
    assert_eq!(
        told("actor"),
        [
            json!(format!("patient-{other}")),
            "test-analyst".into(),
            "test-physician".into(),
            "test-physician".into(),
            "test-nurse".into()
        ]
    );
    assert_eq!(told("outcome"), ["refused", "refused", "success", "success", "success"]);
    assert_eq!(told("decision"), ["hide", "deny", "allow", "allow", "allow"]);
    assert_eq!(
        told("actions"),
        [
            json!(["ReadChart"]),
            json!(["ReadChart"]),
            json!(["ReadFhir"]),
            json!(["SearchPatients"]),
            json!(["ReadChart"])
        ]
    );
    assert_eq!(told("purpose"), ["PATRQT", "HRESCH", "TREAT", "TREAT", "ETREAT"]);
    assert_eq!(items[4]["id"].as_str().unwrap(), read.headers["x-request-id"].to_str().unwrap());
    assert_eq!((&items[3]["parameters"], &items[3]["patientsTotal"]), (&json!(["name", "limit"]), &json!(2)));
    assert_eq!(items[3]["patients"].as_array().unwrap().len(), 2);

    // Neither a name nor what was searched for stands in the log, sealed or not.
    let kept = serde_json::to_string(&payloads(world, &access.log).await).unwrap().to_lowercase();
    assert!(kept.contains("searchpatients"));
    for word in ["cormier", "smith", "1959-07-30"] {
        assert!(!kept.contains(word), "{word}");
    }
    access.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_who_looked_is_looking_too() {
    let access = AccessWorld::new().await;
    let id = Uuid::new_v4();
    access.world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    for count in 0..3 {
        access.completed(count).await;
        let items = access.others(&format!("/v1/patients/{id}/accesses")).await;
        assert_eq!(items.len(), usize::try_from(count).unwrap());
        assert!(
            items.iter().all(|it| it["actions"] == json!(["ReadPatientAccesses"]) && it["patients"] == json!([id]))
        );
    }
    access.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_asks_by_person_time_and_outcome_in_pages() {
    let access = AccessWorld::new().await;
    let (world, id) = (&access.world, Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    for _ in 0..5 {
        world.get(Role::Nurse, &format!("/v1/patients/{id}/chart")).await;
    }
    world.get(Role::Analyst, &format!("/v1/patients/{id}/chart")).await;
    access.completed(6).await;
    let paged = world.all_pages(Role::Auditor, "/v1/accesses?actor=test-nurse", 2).await;
    assert_eq!(paged.len(), 5);
    assert!(paged.windows(2).all(|pair| pair[0]["id"].as_str() > pair[1]["id"].as_str()), "newest first, none twice");
    let refused = access.others("/v1/accesses?outcome=refused").await;
    assert_eq!((refused.len(), &refused[0]["actor"]), (1, &json!("test-analyst")));
    assert_eq!(access.others("/v1/accesses?actor=nobody").await.len(), 0);
    assert_eq!(access.others("/v1/accesses?to=2026-01-01T00:00:00Z").await.len(), 0);
    assert_eq!(access.others("/v1/accesses?actor=test-nurse&from=2026-01-01T00:00:00Z").await.len(), 5);
    assert_eq!(access.audit("/v1/accesses?outcome=good").await.problem(), "invalid-parameter");
    access.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_learns_who_saw_their_record_and_no_more() {
    let access = AccessWorld::new().await;
    let (world, id, other) = (&access.world, Uuid::new_v4(), Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30"), patient(other, "Cormier", "Lea", "1984-01-02")]).await;
    world.get(Role::Nurse, "/v1/patients?name=cormier").await.items();
    world.get(Role::Analyst, &format!("/v1/patients/{id}/chart")).await;
    access.completed(2).await;
    let path = format!("/v1/patients/{id}/accesses");
    let mut items = world.get_with(&world.issuer.patient_token(id), &path, &[]).await.items();
    // The very request that asks may be known already.
    items.retain(|it| it["actor"] != format!("patient-{id}"));
    assert_eq!(items.len(), 1, "who was refused saw nothing");
    let mut fields: Vec<_> = items[0].as_object().unwrap().keys().cloned().collect();
    fields.sort();
    assert_eq!(fields, ["actions", "actor", "at", "breakGlass", "id", "outcome", "purpose", "roles"]);
    let others = world.get_with(&world.issuer.patient_token(other), &path, &[]).await;
    assert_eq!(others.status, StatusCode::NOT_FOUND);
    access.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_is_told_as_balp_shapes_it() {
    let access = AccessWorld::new().await;
    let (world, id) = (&access.world, Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let read = world.get(Role::Physician, &format!("/v1/patients/{id}/chart")).await;
    world.get(Role::Nurse, "/v1/patients?name=cormier").await;
    for _ in 0..2 {
        world.get(Role::Analyst, &format!("/v1/patients/{id}/chart")).await;
    }
    access.completed(4).await;

    let request = read.headers["x-request-id"].to_str().unwrap();
    let event = access.audit(&format!("/fhir/AuditEvent/{request}")).await.json();
    assert_eq!(
        event["meta"]["profile"][0],
        "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead"
    );
    assert_eq!((&event["type"]["code"], &event["subtype"][0]["code"]), (&json!("rest"), &json!("read")));
    assert_eq!((&event["action"], &event["outcome"]), (&json!("R"), &json!("0")));
    let types: Vec<_> =
        event["agent"].as_array().unwrap().iter().map(|it| it["type"]["coding"][0]["code"].clone()).collect();
    assert_eq!(types, ["IRCP", "110152", "110153"], "user, client as destination, server as source");
    assert_eq!(event["agent"][0]["who"]["identifier"]["value"], "test-physician");
    assert_eq!(event["agent"][0]["purposeOfUse"][0]["coding"][0]["code"], "TREAT");
    assert_eq!(event["agent"][1]["who"]["identifier"]["value"], "test-physician", "the client of the token");
    let entities: Vec<_> = event["entity"].as_array().unwrap().iter().map(|it| it["type"]["code"].clone()).collect();
    assert_eq!(entities, ["1", "2", "XrequestId"]);
    assert_eq!(event["entity"][0]["what"]["reference"], format!("Patient/{id}"));
    assert_eq!(event["entity"][2]["what"]["identifier"]["value"], request);

    let search = async |query: String| access.audit(&query).await.json();
    let bundle = search("/fhir/AuditEvent?agent=test-nurse".to_owned()).await;
    let query = &bundle["entry"][0]["resource"];
    assert_eq!((&query["action"], &query["subtype"][0]["code"]), (&json!("E"), &json!("search")));
    assert_eq!(query["entity"][1]["description"], "/v1/patients?name");
    let bundle =
        search(format!("/fhir/AuditEvent?patient=Patient/{id}&agent=test-analyst&_count=1&date=ge2026-01-01")).await;
    let denied = &bundle["entry"][0]["resource"];
    assert_eq!(
        (&denied["outcome"], &denied["outcomeDesc"], &denied["meta"]["profile"]),
        (&json!("4"), &json!("refused"), &Value::Null)
    );
    let next = format!("/fhir/{}", bundle["link"][0]["url"].as_str().unwrap());
    assert_eq!(search(next).await["entry"].as_array().unwrap().len(), 1);
    access.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_record_there_is_no_access() {
    let access = AccessWorld::new().await;
    let (world, id) = (&access.world, Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let path = format!("/v1/patients/{id}/chart");
    // Whoever holds the heads holds up every append.
    let mut holding = pool(&access.log, "postgres").begin().await.unwrap();
    sqlx::query("select from heads for update").execute(&mut *holding).await.unwrap();
    let refused = world.get(Role::Nurse, &path).await;
    assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "access-not-recorded"));
    holding.rollback().await.unwrap();
    assert_eq!(world.get(Role::Nurse, &path).await.status, StatusCode::OK);
    access.completed(2).await;
    let items = access.others(&format!("/v1/patients/{id}/accesses")).await;
    assert_eq!(items.iter().map(|it| it["outcome"].clone()).collect::<Vec<_>>(), ["success", "failed"]);
    access.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_leaves_an_interrupted_access() {
    let access = AccessWorld::new().await;
    let (world, id) = (&access.world, Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let (token, path) = (world.issuer.token(Role::Nurse), format!("/v1/patients/{id}/chart"));
    let waits = [("nexus-position", "0-999999")];
    let asked = world.get_with(&token, &path, &waits);
    let opened = nexus_testkit::eventually("the access is opened", PATIENCE, async || {
        let sql = "select count(*) from access.events";
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&access.log.pool().await).await.unwrap();
        (count > 0).then_some(())
    });
    tokio::select! {
        _ = asked => panic!("nobody has that position"),
        () = opened => {}
    }
    access.completed(1).await;
    let items = access.others(&format!("/v1/patients/{id}/accesses")).await;
    assert_eq!((&items[0]["outcome"], &items[0]["status"]), (&json!("interrupted"), &Value::Null));
    access.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_the_access_log_cannot_read_it() {
    let log = TestDatabase::log().await;
    // An upgrade runs all of it again, and leaves the grants as they are.
    migrate_access_log(&log.pool().await, PARTITIONS).await.unwrap();
    for role in ["nexus_query", "nexus_command"] {
        let pool = log.pool_as(role).await;
        for table in ["events", "idempotency", "claims", "snapshots", "relay_leases"] {
            let read = sqlx::query(&format!("select * from access.{table}")).fetch_all(&pool).await;
            assert_eq!(code(read), "42501", "{role} {table}");
        }
        let write = sqlx::query("update access.heads set position = 0").execute(&pool).await;
        assert_eq!(code(write), "42501", "{role}");
    }
    let query = log.pool_as("nexus_query").await;
    for table in ["events", "heads", "idempotency"] {
        let read = sqlx::query(&format!("select * from public.{table}")).fetch_all(&query).await;
        assert_eq!(code(read), "42501", "public.{table}");
    }
    let change = sqlx::query("delete from access.events").execute(&log.pool().await).await;
    assert_eq!(code(change), "23001", "not even the owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_takes_new_streams_of_one_event_and_nothing_else() {
    let (world, log, topic) = (World::new().await, TestDatabase::log().await, TestTopic::create().await);
    let access = EventLog::connect_quietly(LogConfig {
        log_pool: pool(&log, "nexus_query"),
        keyring: world.keyring.clone(),
        kafka: kafka_address().into(),
        topic: topic.name().to_owned(),
        partitions: None,
        claims: ClaimRules::NONE,
    });
    let (access, id) = (access.await.unwrap(), Uuid::new_v4());
    let Outcome::Appended(receipt) = access.append(batch(id, 1)).await.unwrap() else { panic!("it is the first") };
    // A repetition of an append whose answer was lost is stored once.
    assert!(matches!(access.append(batch(id, 1)).await.unwrap(), Outcome::Conflict { .. }));
    let Outcome::Appended(next) = access.append(batch(Uuid::new_v4(), 1)).await.unwrap() else { panic!("it is new") };
    assert_eq!((receipt.positions[0].1, next.positions[0].1), (1, 2), "without a gap");
    assert!(access.append(batch(id, 2)).await.is_err());
    let stored: i64 =
        sqlx::query_scalar("select count(*) from access.events").fetch_one(&log.pool().await).await.unwrap();
    assert_eq!(stored, 2);
}

/// An event of the stream at this sequence; they share a subject, and so a partition.
fn batch(id: Uuid, sequence: i64) -> Append {
    let aggregate_type = AGGREGATE_TYPE.to_owned();
    Append {
        idempotency: None,
        response: Value::Null,
        expect: vec![Expectation::Stream {
            aggregate_type: aggregate_type.clone(),
            aggregate_id: id,
            sequence: sequence - 1,
        }],
        take: Vec::new(),
        release: Vec::new(),
        events: vec![NewEvent {
            aggregate_type,
            aggregate_id: id,
            sequence,
            subject: Uuid::nil(),
            event_type: EVENT_TYPE.to_owned(),
            event_version: "1.0".to_owned(),
            source: None,
            payload: to_raw_value(&json!({})).unwrap(),
        }],
        metadata: Metadata::default(),
        traceparent: None,
    }
}

fn code<T>(outcome: Result<T, sqlx::Error>) -> String {
    let error = outcome.err().expect("a refusal");
    error.as_database_error().and_then(|error| error.code()).unwrap().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_patient_is_forgotten_and_stays_so() {
    let access = AccessWorld::new().await;
    let (world, id, other) = (&access.world, Uuid::new_v4(), Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30"), patient(other, "Cormier", "Lea", "1984-01-02")]).await;
    world.get(Role::Nurse, "/v1/patients?name=cormier").await.items();
    assert_eq!(world.get(Role::Physician, &format!("/fhir/Patient/{id}")).await.status, StatusCode::OK);
    access.completed(2).await;
    let named = async || -> i64 {
        let sql = "select count(*) from access_log_v1.accesses where target = $1";
        sqlx::query_scalar(sql).bind(id).fetch_one(&world.read).await.unwrap()
    };
    assert_eq!(named().await, 1);
    sqlx::query("update subject_keys set state = 'erased', wrapped = null where subject = $1")
        .bind(id)
        .execute(&world.keys)
        .await
        .unwrap();
    world.keyring.forget(id);
    let path = format!("/v1/patients/{id}/accesses");
    assert_eq!(access.audit(&path).await.status, StatusCode::NOT_FOUND);

    // The log of the events tells the engine, and the engine tells every read model of that log.
    let model = read_models().into_iter().find(|model| model.name() == "access_erasures").unwrap();
    forget(world, model.as_ref(), id).await;
    let links = "select patient from access_patients order by 1";
    let links = async || -> Vec<Uuid> {
        let pool = PgPoolOptions::new()
            .connect_with(in_schema(world.read_database.url("postgres").parse().unwrap(), "access_log_v1"))
            .await
            .unwrap();
        sqlx::query_scalar(links).fetch_all(&pool).await.unwrap()
    };
    // The auditor's question about the erased patient named them, too.
    assert_eq!((links().await, named().await), (vec![other], 0));
    // The log still says whose it was; a fold from its beginning does not link them again.
    for payload in payloads(world, &access.log).await {
        let batch: Batch = serde_json::from_value(payload).unwrap();
        assert!(batch.opened.len() + batch.completed.len() > 0);
    }
    assert!(!world.get(Role::Physician, &format!("/fhir/Patient/{id}")).await.status.is_success());
    access.completed(4).await;
    assert_eq!((links().await, named().await), (vec![other], 0));
    access.end().await;
}

/// The process that writes the access log may have a key in its memory a while longer than its subject exists.
#[tokio::test(flavor = "multi_thread")]
async fn an_access_that_is_told_late_names_nobody_who_is_erased() {
    let access = AccessWorld::new().await;
    let (world, id) = (&access.world, Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let model = read_models().into_iter().find(|model| model.name() == "access_erasures").unwrap();
    forget(world, model.as_ref(), id).await;
    sqlx::query(
        "insert into projection.forgotten (read_model, version, subject, partition, rows, parked)
         values ('access_erasures', 1, $1, 0, 0, 0)",
    )
    .bind(id)
    .execute(&world.read)
    .await
    .unwrap();
    assert_eq!(world.get(Role::Physician, &format!("/fhir/Patient/{id}")).await.status, StatusCode::OK);
    access.completed(1).await;
    let left: (i64, i64) = sqlx::query_as(
        "select (select count(*) from access_log_v1.access_patients where patient = $1),
            (select count(*) from access_log_v1.accesses where target = $1)",
    )
    .bind(id)
    .fetch_one(&world.read)
    .await
    .unwrap();
    assert_eq!(left, (0, 0), "links, and ids in paths");
    access.end().await;
}

async fn forget(world: &World, model: &dyn ReadModel, id: Uuid) {
    let mut tx = world.read.begin().await.unwrap();
    sqlx::query("set local role nexus_projector").execute(&mut *tx).await.unwrap();
    model.forget(&mut tx, id, &world.keyring).await.unwrap();
    tx.commit().await.unwrap();
}
