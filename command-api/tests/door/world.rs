//! A write door of one's own, started in this process: what every test stands on.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use clap::Parser;
use nexus_access_log::Batch;
use nexus_auth::testing::ORGANIZATION;
use nexus_command_api::Service;
use nexus_command_api::config::Config;
use nexus_domain::AnyEvent;
use nexus_event_store::relay::{Relay, RelayConfig};
use nexus_event_store::{ACCESS_SCHEMA, Keyring, LogReader, MasterKey, PARTITIONS_DEFAULT, envelope, in_schema};
use nexus_testkit::{Answer, Caller, Role, TestDatabase, TestIssuer, TestTopic, kafka_address};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const LOINC: &str = "http://loinc.org";
pub const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
pub const NPI: &str = "http://hl7.org/fhir/sid/us-npi";

/// A door, its databases, its topic, and somebody who signs tokens.
pub struct World {
    pub issuer: TestIssuer,
    pub url: String,
    log: TestDatabase,
    pub keys: TestDatabase,
    topic: TestTopic,
    access_topic: TestTopic,
    master_key: tempfile::TempDir,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    /// Where the clinicians among the callers work, once it is in the directory.
    organization: OnceCell<()>,
    /// Events that the world itself needed.
    arranged: AtomicI64,
}

impl World {
    pub async fn start() -> Self {
        let master_key = tempfile::tempdir().expect("a temporary folder");
        MasterKey::generate_file(master_key.path().join("master.key")).expect("a master key");
        let mut world = Self {
            issuer: TestIssuer::start().await,
            url: String::new(),
            log: TestDatabase::log().await,
            keys: TestDatabase::keys().await,
            topic: TestTopic::create().await,
            access_topic: TestTopic::create().await,
            master_key,
            stop: CancellationToken::new(),
            tasks: Vec::new(),
            organization: OnceCell::new(),
            arranged: AtomicI64::new(0),
        };
        world.url = world.another_door().await;
        world
    }

    /// Starts one more instance on the same log.
    pub async fn another_door(&mut self) -> String {
        self.another_door_with(&[]).await
    }

    /// The same with more settings.
    pub async fn another_door_with(&mut self, settings: &[&str]) -> String {
        let file = self.master_key.path().join("master.key").display().to_string();
        let (log, keys) = (self.log.url("nexus_command"), self.keys.url("nexus_command"));
        let usual = [
            "command-api",
            "--listen=127.0.0.1:0",
            &format!("--log-url={log}"),
            &format!("--keys-url={keys}"),
            &format!("--kafka={}", kafka_address()),
            &format!("--topic={}", self.topic.name()),
            &format!("--access-topic={}", self.access_topic.name()),
            &format!("--issuer={}", self.issuer.url()),
            &format!("--master-key-file={file}"),
        ];
        let config = Config::parse_from(usual.iter().chain(settings));
        let service = Service::start(&config, self.stop.clone()).await.expect("the door starts");
        let url = format!("http://{}", service.address().expect("it is bound"));
        self.tasks.push(tokio::spawn(async move { service.run().await.expect("the door serves") }));
        url
    }

    /// Starts a relay, so that events get into Kafka.
    pub async fn start_relay(&mut self) {
        let pool = self.log.pool_as("nexus_relay").await;
        let config = RelayConfig::new(pool, kafka_address(), self.topic.name());
        let relay = Relay::try_new(config).expect("the relay's settings are right");
        self.tasks.push(tokio::spawn(relay.run(self.stop.clone())));
    }

    pub fn caller(&self, role: Role) -> Caller {
        Caller::with_token(&self.url, self.issuer.token(role))
    }

    pub fn service(&self) -> Caller {
        self.caller(Role::Service)
    }

    /// How many events the log holds, without those that put a patient into care.
    pub async fn events(&self) -> i64 {
        self.ask_log::<i64>("select count(*) from events").await - self.arranged.load(Ordering::SeqCst)
    }

    /// Everything that the access log holds, opened.
    pub async fn access_batches(&self) -> Vec<Batch> {
        let options = in_schema(self.log.url("nexus_projector").parse().expect("a URL"), ACCESS_SCHEMA);
        let reader = LogReader::new(PgPoolOptions::new().connect_lazy_with(options));
        let master = MasterKey::from_file(self.master_key.path().join("master.key")).expect("the master key");
        let keyring = Keyring::connect(self.keys.pool().await, master).await.expect("the key store");
        let mut batches = Vec::new();
        for partition in 0..PARTITIONS_DEFAULT {
            for event in reader.range(partition, 0, 1_000).await.expect("the log answers") {
                let key = keyring.key_of(&event.header).await.expect("the lane's key");
                let payload = envelope::open_event(&key, &event).expect("it opens").payload;
                batches.push(serde_json::from_value(payload).expect("a batch"));
            }
        }
        batches
    }

    /// The newest version of a resource that the log holds, opened.
    pub async fn resource(&self, resource_type: &str, id: Uuid) -> Value {
        let reader = LogReader::new(self.log.pool_as("nexus_projector").await);
        let master = MasterKey::from_file(self.master_key.path().join("master.key")).expect("the master key");
        let keyring = Keyring::connect(self.keys.pool().await, master).await.expect("the key store");
        let mut newest = None;
        for partition in 0..PARTITIONS_DEFAULT {
            for event in reader.range(partition, 0, 1_000).await.expect("the log answers") {
                let header = &event.header;
                if header.aggregate_id == id && newest.as_ref().is_none_or(|(sequence, _)| *sequence < header.sequence)
                {
                    let key = keyring.key_of(header).await.expect("the subject's key");
                    let payload = envelope::open_event(&key, &event).expect("it opens").payload;
                    let events =
                        AnyEvent::parse(&header.aggregate_type, &header.event_type, &header.event_version, payload);
                    let event = events.expect("it can be read").pop().expect("an event");
                    newest = Some((header.sequence, event.resource().clone()));
                }
            }
        }
        let resource = newest.unwrap_or_else(|| panic!("no {resource_type}/{id} in the log")).1;
        assert_eq!(resource.resource_type(), resource_type);
        resource.into_json()
    }

    /// What the log's database answers.
    pub async fn ask_log<T>(&self, query: &str) -> T
    where
        T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'row> sqlx::Decode<'row, sqlx::Postgres>,
    {
        let pool = self.log.pool().await;
        let answer = sqlx::query_scalar(query).fetch_one(&pool).await.expect("the log answers");
        pool.close().await;
        answer
    }

    /// Registers a patient of nobody and gives the id.
    pub async fn stranger(&self) -> Uuid {
        id_of(&self.caller(Role::Registrar).post("/v1/patients", &patient(&fresh("mrn"))).await.expect(201))
    }

    /// Registers a patient in the care of the organization that all clinicians work for, and gives the id.
    pub async fn patient(&self) -> Uuid {
        let id = self.stranger().await;
        self.take_into_care(id).await;
        id
    }

    /// Starts an encounter at the organization that all clinicians work for.
    pub async fn take_into_care(&self, patient: Uuid) {
        self.organization
            .get_or_init(|| async {
                let organization = json!({"resourceType": "Organization", "id": ORGANIZATION, "name": "Hospital"});
                self.service().post("/v1/directory", &organization).await.expect(201);
                self.arranged.fetch_add(1, Ordering::SeqCst);
            })
            .await;
        let encounter = json!({
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
            "organization": ORGANIZATION
        });
        self.service().post(&format!("/v1/patients/{patient}/encounters"), &encounter).await.expect(201);
        self.arranged.fetch_add(1, Ordering::SeqCst);
    }

    /// Registers a practitioner and gives the id.
    pub async fn practitioner(&self, npi: &str) -> Uuid {
        id_of(&self.service().post("/v1/directory", &practitioner(npi)).await.expect(201))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A text that no other test uses.
pub fn fresh(prefix: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn id_of(answer: &Answer) -> Uuid {
    answer.json()["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no id: {answer:?}"))
}

/// Posts under a given idempotency key.
pub async fn post_with(caller: &Caller, path: &str, key: &str, body: &Value) -> Answer {
    caller.request(Method::POST, path).header("idempotency-key", key).json(body).answer().await
}

/// Posts without any idempotency key.
pub async fn post_plain(caller: &Caller, path: &str, body: &Value) -> Answer {
    caller.request(Method::POST, path).json(body).answer().await
}

pub fn patient(mrn: &str) -> Value {
    json!({
        "identifiers": [{"type": "MR", "system": "urn:oid:2.16.840.1.113883.19.5", "value": mrn}],
        "names": [{"family": "Example", "given": ["Ada"]}],
        "gender": "female",
        "birthDate": "1985-04-12"
    })
}

pub fn heart_rate(value: &str) -> Value {
    let value: serde_json::Number = value.parse().expect("a number");
    json!({
        "code": {"system": LOINC, "code": "8867-4", "display": "Heart rate"},
        "value": {"value": value, "unit": "beats/minute", "code": "/min"}
    })
}

pub fn penicillin_allergy() -> Value {
    json!({
        "code": {"system": RXNORM, "code": "7980", "display": "Penicillin G"},
        "categories": ["medication"], "criticality": "high"
    })
}

pub fn penicillin() -> Value {
    json!({"medication": {"system": RXNORM, "code": "7980", "display": "Penicillin G"}})
}

pub fn practitioner(npi: &str) -> Value {
    json!({
        "resourceType": "Practitioner",
        "identifier": [{"system": NPI, "value": npi}],
        "name": [{"family": "Example", "given": ["Grace"]}]
    })
}

pub fn appointment(practitioner: Uuid, start: &str, end: &str) -> Value {
    json!({"start": start, "end": end, "practitioners": [practitioner]})
}

/// A bundle of these entries.
pub fn bundle(kind: &str, entries: &[Value]) -> Value {
    json!({"resourceType": "Bundle", "type": kind, "entry": entries})
}

/// An appointment of a patient with a practitioner, as a bundle has it.
pub fn fhir_appointment(subject: &str, practitioner: Uuid, start: &str, end: &str) -> Value {
    json!({
        "resourceType": "Appointment", "id": Uuid::new_v4(), "status": "booked", "start": start, "end": end,
        "participant": [
            {"actor": {"reference": subject}, "status": "accepted"},
            {"actor": {"reference": format!("Practitioner/{practitioner}")}, "status": "accepted"}
        ]
    })
}

/// An entry that creates a resource under a `urn:uuid:` of its id.
pub fn create(resource: Value) -> Value {
    let url = resource["resourceType"].clone();
    let full_url = format!("urn:uuid:{}", resource["id"].as_str().expect("an id"));
    json!({"fullUrl": full_url, "resource": resource, "request": {"method": "POST", "url": url}})
}

/// The same, unless somebody bears this identifier.
pub fn create_unless(resource: Value, condition: &str) -> Value {
    let mut entry = create(resource);
    entry["request"]["ifNoneExist"] = json!(condition);
    entry
}

pub fn fhir_patient(id: Uuid, mrn: &str) -> Value {
    json!({
        "resourceType": "Patient", "id": id,
        "identifier": [{
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]},
            "system": "urn:hospital", "value": mrn
        }],
        "name": [{"family": "Example", "given": ["Ada"]}], "gender": "female", "birthDate": "1985-04-12"
    })
}

pub fn fhir_observation(id: Uuid, subject: &str) -> Value {
    json!({
        "resourceType": "Observation", "id": id, "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "8867-4"}]},
        "subject": {"reference": subject}, "effectiveDateTime": "2020-02-03T10:00:00Z",
        "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
    })
}

pub async fn post_bundle(caller: &Caller, bundle: &Value) -> Answer {
    caller.post_fhir(bundle.to_string(), &Uuid::new_v4().to_string()).await
}

/// The status of each entry of an answer.
pub fn statuses(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    let entries = body["entry"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| entry["response"]["status"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The codes of all faults that a problem lists, with their places.
pub fn errors(problem: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| (text(&error["pointer"]), text(&error["code"]))).collect()
}
