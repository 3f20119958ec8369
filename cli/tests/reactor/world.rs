//! A platform of a test's own in this process, but for the reactor, which is a process that can be killed. The projector can
//! be made to die too.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Parser;
use nexus_auth::testing::{ORGANIZATION, SECRET};
use nexus_command_api::Service;
use nexus_command_api::config::Config;
use nexus_event_store::relay::{Relay, RelayConfig};
use nexus_event_store::{Keyring, LogReader, MasterKey};
use nexus_projections::engine::rebuild::{Pace, Rebuild};
use nexus_projections::engine::{Engine, EngineConfig, GroupProtocol, Limits};
use nexus_projections::query_api::{QueryConfig, QueryService};
use nexus_projections::{ReadModel, read_models};
use nexus_testkit::{Caller, DEADLINE, Role, TestDatabase, TestIssuer, TestTopic, eventually, kafka_address};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
/// What the tests look at; the others would only take time.
const HOSTED: [&str; 4] = ["access_grants", "ward_alerts", "early_warning", "appointment_follow_up"];

pub struct World {
    issuer: TestIssuer,
    write: String,
    read_door: String,
    /// Asked all the time: each has one client for all its requests.
    pub service: Caller,
    pub nurse: Caller,
    log_database: TestDatabase,
    keys_database: TestDatabase,
    read_database: TestDatabase,
    /// As superusers, to look at what is there.
    pub log: PgPool,
    pub read: PgPool,
    keyring: Keyring,
    topic: TestTopic,
    _access_topic: TestTopic,
    _master_key: tempfile::TempDir,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// A process that is killed (SIGKILL) when dropped.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Killing one that is gone already is fine.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl World {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("master.key").display().to_string();
        MasterKey::generate_file(&file).unwrap();
        let (log_database, keys_database) = (TestDatabase::log().await, TestDatabase::keys().await);
        let read_database = TestDatabase::read().await;
        let (topic, access_topic) = (TestTopic::create().await, TestTopic::create().await);
        let issuer = TestIssuer::start().await;
        let keyring = Keyring::connect(keys_database.pool().await, MasterKey::from_file(&file).unwrap()).await.unwrap();
        let config = Config::parse_from([
            "command-api",
            "--listen=127.0.0.1:0",
            &format!("--log-url={}", log_database.url("nexus_command")),
            &format!("--keys-url={}", keys_database.url("nexus_command")),
            &format!("--kafka={}", kafka_address()),
            &format!("--topic={}", topic.name()),
            &format!("--access-topic={}", access_topic.name()),
            &format!("--issuer={}", issuer.url()),
            &format!("--master-key-file={file}"),
            "--requests-per-minute=0",
        ]);
        let mut world = Self {
            write: String::new(),
            read_door: String::new(),
            service: Caller::anonymous(""),
            nurse: Caller::anonymous(""),
            log: log_database.pool().await,
            read: read_database.pool().await,
            issuer,
            log_database,
            keys_database,
            read_database,
            keyring,
            topic,
            _access_topic: access_topic,
            _master_key: folder,
            stop: CancellationToken::new(),
            tasks: Vec::new(),
        };
        let service = Service::start(&config, world.stop.clone()).await.unwrap();
        world.write = format!("http://{}", service.address().unwrap());
        world.tasks.push(tokio::spawn(async move { service.run().await.unwrap() }));
        let relay =
            RelayConfig::new(world.log_database.pool_as("nexus_relay").await, kafka_address(), world.topic.name());
        world.tasks.push(tokio::spawn(Relay::try_new(relay).unwrap().run(world.stop.clone())));
        world.open_read_door(&file).await;
        world.service = Caller::with_token(&world.write, world.issuer.token(Role::Service));
        world.nurse = Caller::with_token(&world.read_door, world.issuer.token(Role::Nurse));
        let organization = json!({"resourceType": "Organization", "id": ORGANIZATION, "name": "Hospital"});
        world.service.post("/v1/directory", &organization).await.expect(201);
        world
    }

    async fn open_read_door(&mut self, master_key_file: &str) {
        let (read, keys) = (self.read_database.url("nexus_query"), self.keys_database.url("nexus_query"));
        let config = QueryConfig::parse_from([
            "query-api",
            &format!("--read-url={read}"),
            &format!("--keys-url={keys}"),
            &format!("--log-url={}", self.log_database.url("nexus_query")),
            &format!("--kafka={}", kafka_address()),
            &format!("--issuer={}", self.issuer.url()),
            &format!("--master-key-file={master_key_file}"),
            "--requests-per-minute=0",
        ]);
        let verifier = self.issuer.verifier().await;
        let service = QueryService::new(&read.parse().unwrap(), &config, self.keyring.clone(), verifier);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.read_door = format!("http://{}", listener.local_addr().unwrap());
        let stop = self.stop.clone();
        self.tasks.push(tokio::spawn(async move { service.run_until_stopped(listener, stop).await.unwrap() }));
    }

    pub fn caller(&self, role: Role) -> Caller {
        Caller::with_token(&self.write, self.issuer.token(role))
    }

    /// Starts a projector.
    pub async fn projector(&self) -> Engine {
        let config = EngineConfig {
            kafka: kafka_address().into(),
            topic: self.topic.name().to_owned(),
            group_prefix: format!("{}.", self.topic.name()),
            group_protocol: GroupProtocol::default(),
            group_instance: None,
            read_database: self.read_database.url("nexus_projector").parse().unwrap(),
            log: LogReader::new(self.log_database.pool_as("nexus_projector").await),
            keyring: self.keyring.clone(),
            owner: Uuid::new_v4().to_string(),
            limits: Limits::default(),
        };
        let hosted = |model: &Arc<dyn ReadModel>| HOSTED.contains(&model.name());
        Engine::start(&config, read_models().into_iter().filter(hosted).collect())
    }

    /// What an operator has to fill a read model anew.
    pub async fn rebuild(&self, read_model: &str) -> Rebuild {
        let model = read_models().into_iter().find(|it| it.name() == read_model).unwrap();
        let owner = self.read_database.url("postgres").parse().unwrap();
        let log = LogReader::new(self.log_database.pool_as("nexus_projector").await);
        Rebuild::new(&owner, log, self.keyring.clone(), model, Pace::default())
    }

    /// Starts a reactor: with its own role in the database, and its own account at the issuer.
    pub fn reactor(&self) -> Running {
        let program = Path::new(env!("CARGO_BIN_EXE_nexus")).with_file_name("reactor");
        let mut command = Command::new(program);
        command
            .arg("--listen=127.0.0.1:0")
            .arg(format!("--read-url={}", self.read_database.url("nexus_reactor")))
            .arg(format!("--command-url={}", self.write))
            .arg(format!("--issuer={}", self.issuer.url()))
            .arg(format!("--client-secret={SECRET}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }

    /// Registers an adult who is in hospital; the patient and the stay.
    pub async fn inpatient(&self) -> (Uuid, Uuid) {
        let patient = json!({
            "names": [{"family": "Example", "given": ["Ada"]}], "gender": "female", "birthDate": "1985-04-12",
            "identifiers": [{"type": "MR", "system": "urn:hospital", "value": Uuid::new_v4()}]
        });
        let patient = id_of(&self.caller(Role::Registrar).post("/v1/patients", &patient).await.expect(201).json());
        let stay = json!({"class": {"system": ACT_CODE, "code": "IMP"}, "organization": ORGANIZATION});
        let path = format!("/v1/patients/{patient}/encounters");
        (patient, id_of(&self.service.post(&path, &stay).await.expect(201).json()))
    }

    /// Records a measured value; the id of the observation.
    pub async fn measure(&self, patient: Uuid, code: &str, value: f64, unit: &str) -> Uuid {
        let observation = observation(code, value, unit);
        let path = format!("/v1/patients/{patient}/observations");
        id_of(&self.service.post(&path, &observation).await.expect(201).json())
    }

    /// Records a whole round of normal values.
    pub async fn is_well(&self, patient: Uuid) {
        for (code, value, unit) in [
            ("9279-1", 16.0, "/min"),
            ("2708-6", 98.0, "%"),
            ("8480-6", 120.0, "mm[Hg]"),
            ("8867-4", 70.0, "/min"),
            ("8310-5", 36.8, "Cel"),
        ] {
            self.measure(patient, code, value, unit).await;
        }
    }

    /// The events of aggregates of this type and subject, in order.
    pub async fn events(&self, aggregate_type: &str, subject: Uuid) -> Vec<String> {
        sqlx::query_scalar("select event_type from events where aggregate_type = $1 and subject = $2 order by position")
            .bind(aggregate_type)
            .bind(subject)
            .fetch_all(&self.log)
            .await
            .unwrap()
    }

    pub async fn wait_for_events(&self, aggregate_type: &str, subject: Uuid, expected: &[&str]) {
        let what = format!("{expected:?}");
        eventually(&what, DEADLINE, || async {
            (self.events(aggregate_type, subject).await == expected).then_some(())
        })
        .await;
    }

    /// How many orders of a reactor are in this state.
    pub async fn orders(&self, schema: &str, state: &str) -> i64 {
        sqlx::query_scalar(&format!("select count(*) from {schema}.orders where state = $1"))
            .bind(state)
            .fetch_one(&self.read)
            .await
            .unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

pub fn observation(code: &str, value: f64, unit: &str) -> Value {
    json!({
        "code": {"system": "http://loinc.org", "code": code},
        "value": {"value": value, "unit": unit, "code": unit}
    })
}

pub fn id_of(answer: &Value) -> Uuid {
    answer["id"].as_str().and_then(|id| id.parse().ok()).unwrap()
}

pub fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
