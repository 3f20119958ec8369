//! A read database and a key store of a test's own, the read door in this process, and events made from resources.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use nexus_auth::Role;
use nexus_auth::testing::ORGANIZATION;
use nexus_domain::fhir::{Resource, patient_of};
use nexus_domain::{AnyEvent, aggregate_for};
use nexus_event_store::{Keyring, MasterKey, partition_of};
use nexus_projections::query_api::{QueryConfig, QueryService};
use nexus_projections::{Event, ReadModel, read_models, schema_of};
use nexus_testkit::{TestDatabase, TestIssuer};
use serde_json::{Map, Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Executor, PgPool};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use uuid::Uuid;

pub const MRN_SYSTEM: &str = "http://hospital.smarthealthit.org";
pub const PARTITIONS: i32 = 12;

pub struct World {
    pub read_database: TestDatabase,
    pub keys_database: TestDatabase,
    master_key: PathBuf,
    /// As superuser, to look at what is there.
    pub read: PgPool,
    pub keys: PgPool,
    pub keyring: Keyring,
    pub issuer: TestIssuer,
    pub door: Router,
    sequences: Mutex<HashMap<(String, Uuid), i64>>,
    position: AtomicI64,
}

/// What the door answered.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// The items of a list; anything but 200 fails the test.
    #[track_caller]
    pub fn items(&self) -> Vec<Value> {
        assert_eq!(self.status, StatusCode::OK, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()["items"].as_array().unwrap().clone()
    }

    /// The last part of the problem's type.
    #[track_caller]
    pub fn problem(&self) -> String {
        let kind = self.json()["type"].as_str().unwrap().to_owned();
        kind.strip_prefix("/problems/").unwrap().to_owned()
    }
}

impl World {
    pub async fn new() -> Self {
        let (read_database, keys_database) = (TestDatabase::read().await, TestDatabase::keys().await);
        let (read, keys) = (read_database.pool().await, keys_database.pool().await);
        let master_key = std::env::temp_dir().join(format!("query-{}.key", Uuid::new_v4().simple()));
        MasterKey::generate_file(&master_key).unwrap();
        let keyring = Keyring::connect(keys.clone(), MasterKey::from_file(&master_key).unwrap()).await.unwrap();
        let issuer = TestIssuer::start().await;
        let mut world = Self {
            read_database,
            keys_database,
            master_key,
            read,
            keys,
            keyring,
            issuer,
            door: Router::new(),
            sequences: Mutex::default(),
            position: AtomicI64::default(),
        };
        world.door = world.another_door(&[], &CancellationToken::new()).await;
        world
    }

    /// A door of its own with these settings besides the usual ones.
    pub async fn another_door(&self, settings: &[&str], shutdown: &CancellationToken) -> Router {
        // The door's own role: it must get by with what it is granted.
        let as_query: PgConnectOptions = self.read_database.url("nexus_query").parse().unwrap();
        let config = config_with(&self.issuer, settings);
        QueryService::new(&as_query, &config, self.keyring.clone(), self.issuer.verifier().await).router(shutdown)
    }

    pub fn master_key_file(&self) -> &Path {
        &self.master_key
    }

    /// The next event of the resource's stream. `event` is the last part of its type; `more` is what it carries besides
    /// the resource.
    pub async fn event(&self, event: &str, resource: Value, more: Value) -> Event {
        let aggregate_type = resource["resourceType"].as_str().and_then(aggregate_for).unwrap();
        self.event_of(aggregate_type, event, resource, more).await
    }

    /// The same of an aggregate that shares its resource type with another.
    pub async fn event_of(&self, aggregate_type: &str, event: &str, resource: Value, more: Value) -> Event {
        let resource = Resource::parse(resource).unwrap();
        let id = resource.id().unwrap();
        let subject = patient_of(&resource).unwrap_or(id);
        self.keyring.ensure(&[subject]).await.unwrap();
        let sequence = {
            let mut sequences = self.sequences.lock().unwrap();
            let sequence = sequences.entry((aggregate_type.to_owned(), id)).or_default();
            *sequence += 1;
            *sequence
        };
        let mut payload = Map::from_iter([("resource".to_owned(), resource.into_json())]);
        payload.extend(more.as_object().cloned().unwrap_or_default());
        let full = format!("{aggregate_type}.{event}");
        let facts = AnyEvent::parse(aggregate_type, &full, "2.0", json!({event: payload}));
        let [fact] = facts.expect("an event").try_into().expect("one event");
        Event {
            partition: partition_of(subject, PARTITIONS),
            position: self.position.fetch_add(1, Ordering::Relaxed) + 1,
            subject,
            aggregate_type: aggregate_type.to_owned(),
            aggregate_id: id,
            sequence,
            recorded_at: recorded_at(sequence),
            actor: "test".to_owned(),
            fact,
            key: self.keyring.key(subject).await.unwrap(),
        }
    }

    /// The event that first records a resource.
    pub async fn recorded(&self, resource: Value) -> Event {
        let event = match resource["resourceType"].as_str().and_then(aggregate_for).unwrap() {
            "Patient" | "DirectoryEntry" => "Registered",
            "ClinicalRecord" => "Filed",
            "Consent" => "Granted",
            _ => "Recorded",
        };
        self.event(event, resource, json!({"notes": []})).await
    }

    /// Records resources and applies them to every read model. Patients are in the care of the organization that the
    /// clinicians among [`TestIssuer::token`]'s callers work for.
    pub async fn record(&self, resources: impl IntoIterator<Item = Value>) {
        let mut events = Vec::new();
        for resource in resources {
            events.push(self.recorded(resource).await);
        }
        self.apply(&events).await;
        for event in events.iter().filter(|event| event.aggregate_type == "Patient") {
            self.take_into_care(event.subject).await;
        }
    }

    /// Records resources of strangers: nobody cares for them unless the resources say so.
    pub async fn record_only(&self, resources: impl IntoIterator<Item = Value>) {
        let mut events = Vec::new();
        for resource in resources {
            events.push(self.recorded(resource).await);
        }
        self.apply(&events).await;
    }

    /// Says that the clinicians' organization cares for a patient, without an encounter that would show elsewhere.
    pub async fn take_into_care(&self, patient: Uuid) {
        sqlx::query(
            "insert into access_grants_v2.care
             values ($1, $2, 1, '{}', array[$3::uuid], '-infinity', 'infinity')",
        )
        .bind(Uuid::new_v4())
        .bind(patient)
        .bind(ORGANIZATION)
        .execute(&self.read)
        .await
        .unwrap();
    }

    /// Applies events to every read model in one batch each.
    pub async fn apply(&self, events: &[Event]) {
        for model in read_models() {
            self.apply_to(model.as_ref(), &self.read, events).await;
        }
    }

    /// What the engine does with a batch, without the checkpoint.
    pub async fn apply_to(&self, model: &dyn ReadModel, read: &PgPool, events: &[Event]) {
        let wanted: Vec<_> = events.iter().filter(|event| model.wants(&event.aggregate_type)).cloned().collect();
        let mut tx = read.begin().await.unwrap();
        let path = format!(
            "set local search_path = {}; set local role nexus_projector",
            schema_of(model.name(), model.version())
        );
        tx.execute(path.as_str()).await.unwrap();
        model.apply(&mut tx, &wanted, &self.keyring).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Asks as somebody with this role.
    pub async fn get(&self, role: Role, path: &str) -> Answer {
        self.get_with(&self.issuer.token(role), path, &[]).await
    }

    pub async fn get_with(&self, token: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(path).header("authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.door.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        if parts.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream") {
            // A feed never ends: it is enough that it was opened.
            return Answer { status: parts.status, headers: parts.headers, bytes: Vec::new() };
        }
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    /// All items of a list, read in pages of this size.
    pub async fn all_pages(&self, role: Role, path: &str, limit: usize) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let glue = if path.contains('?') { '&' } else { '?' };
            let answer = self.get(role, &format!("{path}{glue}limit={limit}{cursor}")).await;
            let page = answer.items();
            assert!(page.len() <= limit);
            items.extend(page);
            match answer.json()["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
            assert!(items.len() < 100_000, "the list never ends");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What can't be deleted lies in a folder for temporary files.
        drop(std::fs::remove_file(&self.master_key));
    }
}

pub fn config(issuer: &TestIssuer) -> QueryConfig {
    config_with(issuer, &[])
}

fn config_with(issuer: &TestIssuer, settings: &[&str]) -> QueryConfig {
    let nowhere = "postgres://127.0.0.1:1/none";
    let arguments = [
        "query-api",
        "--read-url",
        nowhere,
        "--keys-url",
        nowhere,
        "--requests-per-minute",
        "0",
        "--log-url",
        nowhere,
        "--kafka",
        "none",
        "--master-key-file",
        "none",
        "--issuer",
    ];
    QueryConfig::try_parse_from(arguments.into_iter().chain([issuer.url()]).chain(settings.iter().copied())).unwrap()
}

fn recorded_at(sequence: i64) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-11-24T10:00:00Z").unwrap().with_timezone(&Utc) + TimeDelta::seconds(sequence)
}

/// A registered patient.
pub fn patient(id: Uuid, family: &str, given: &str, birth_date: &str) -> Value {
    json!({
        "resourceType": "Patient",
        "id": id,
        "identifier": [
            {"system": "https://github.com/synthetichealth/synthea", "value": id},
            {"type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]},
             "system": MRN_SYSTEM, "value": format!("MRN-{id}")},
        ],
        "name": [{"use": "official", "family": family, "given": [given], "prefix": ["Mrs."]}],
        "telecom": [{"system": "phone", "value": "555-874-2318", "use": "home"}],
        "gender": "female",
        "birthDate": birth_date,
        "address": [{"line": ["1042 Streich Ville"], "city": "Belchertown", "state": "MA", "postalCode": "01007"}],
    })
}

pub fn reference(resource_type: &str, id: Uuid) -> Value {
    json!({"reference": format!("{resource_type}/{id}")})
}
