//! Erased subjects: gone from every table of every read model, and from the queue; nobody else notices.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::Utc;
use nexus_domain::aggregate_for;
use nexus_event_store::{ERASED, Erasure, Header, Metadata, Opened, SealedEvent, envelope, partition_of};
use nexus_projections::engine::checkpoint::Name;
use nexus_projections::engine::forgotten::of_subject;
use nexus_projections::engine::parked::list;
use nexus_projections::engine::{Engine, migrate_models, row_hashes};
use nexus_projections::population::{condition_of, member_of};
use nexus_projections::{all_read_models, read_models, schema_of};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::world::{PARTITIONS, Poison, Toy, World, database, eventually, postgres, store};

const PATIENTS: usize = 40;
const ERASED_PATIENTS: usize = 10;

/// The next event of a stream, sealed and in the log.
async fn append(
    world: &World,
    event_type: &str,
    subject: Uuid,
    (id, sequence): (Uuid, i64),
    payload: Value,
) -> SealedEvent {
    let key = world.keyring.key(subject).await.unwrap();
    let header = Header {
        aggregate_type: event_type.split('.').next().unwrap().to_owned(),
        aggregate_id: id,
        sequence,
        subject,
        event_type: event_type.to_owned(),
        event_version: "2.0".to_owned(),
        key_id: key.id(),
        recorded_at: chrono::DateTime::from_timestamp_micros(Utc::now().timestamp_micros()).unwrap(),
        traceparent: None,
    };
    let opened = Opened { payload, metadata: Metadata::default(), source: None };
    let sealed = envelope::seal(&key, &header, &serde_json::to_vec(&opened).unwrap());
    let partition = partition_of(subject, PARTITIONS);
    let event = SealedEvent { header, partition, position: world.head(partition) + 1, sealed };
    store(&world.log, std::slice::from_ref(&event)).await;
    world.history.lock().unwrap().push(event.clone());
    event
}

async fn record(world: &World, subject: Uuid, resource: Value) -> SealedEvent {
    let aggregate_type = aggregate_for(resource["resourceType"].as_str().unwrap()).unwrap();
    let event = match aggregate_type {
        "Patient" => "Registered",
        "ClinicalRecord" => "Filed",
        _ => "Recorded",
    };
    let id = resource["id"].as_str().unwrap().parse().unwrap();
    let payload = json!({event: {"resource": resource, "notes": []}});
    append(world, &format!("{aggregate_type}.{event}"), subject, (id, 1), payload).await
}

/// A patient of whom every read model keeps something; answers the ids of everything about them.
async fn admit(world: &World, number: usize) -> (Uuid, Vec<Uuid>) {
    let id = Uuid::new_v4();
    world.keyring.ensure(&[id]).await.unwrap();
    let patient = json!({"reference": format!("Patient/{id}")});
    let place = json!([{"location": {"reference": format!("Location/{}", Uuid::nil())}}]);
    let parties = json!([{"actor": {"reference": format!("Practitioner/{}", Uuid::nil())}}, {"actor": patient}]);
    let code = json!({"coding": [{"system": "http://snomed.info/sct", "code": number.to_string()}]});
    let resources = [
        json!({"resourceType": "Patient", "id": id, "gender": "female", "birthDate": "1980",
            "name": [{"family": format!("Family{number}")}]}),
        json!({"resourceType": "Condition", "code": code}),
        json!({"resourceType": "Encounter", "status": "in-progress", "location": place}),
        json!({"resourceType": "Observation", "status": "final", "code": code, "valueQuantity": {"value": 1}}),
        json!({"resourceType": "Appointment", "status": "booked", "start": "2026-11-25T09:00:00Z", "participant": parties}),
        json!({"resourceType": "Procedure", "status": "completed", "code": code}),
    ];
    let mut ids = Vec::new();
    for mut resource in resources {
        if resource["id"].is_null() {
            resource["id"] = json!(Uuid::new_v4());
            resource["subject"] = patient.clone();
        }
        ids.push(record(world, id, resource).await.header.aggregate_id);
    }
    (id, ids)
}

/// The event that erases a patient; the key is still there.
async fn erase(world: &World, id: Uuid) -> SealedEvent {
    let request = json!({"by": "registrar", "at": "2026-11-01T09:00:00Z", "reason": "why"});
    let erased = json!({"resource": {"resourceType": "Patient", "id": id}, "request": request,
        "approved_by": "auditor", "approved_at": "2026-11-02T09:00:00Z"});
    append(world, ERASED, id, (id, 2), json!({"Erased": erased})).await
}

async fn destroy_key(world: &World, event: &SealedEvent) {
    let erasure = Erasure {
        subject: event.header.subject,
        key_id: event.header.key_id,
        event_id: Uuid::new_v4(),
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
}

async fn wait_level(world: &World, read: &PgPool) {
    let heads: HashMap<i32, i64> = (0..PARTITIONS).map(|partition| (partition, world.head(partition))).collect();
    let models = read_models().len();
    eventually("all read models are level", async || {
        let rows: Vec<(i32, i64)> =
            sqlx::query_as("select partition, position from projection.checkpoints").fetch_all(read).await.unwrap();
        let level =
            |partition: &i32, head: &i64| rows.iter().filter(|row| row == &&(*partition, *head)).count() == models;
        heads.iter().all(|(partition, head)| level(partition, head))
    })
    .await;
}

/// Every row of every read model as text, sealed bytes included.
async fn rows(read: &PgPool) -> BTreeMap<String, BTreeSet<String>> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname ~ '_v[0-9]+$'",
    )
    .fetch_all(read)
    .await
    .unwrap();
    let mut all = BTreeMap::new();
    for table in tables {
        let rows: Vec<String> =
            sqlx::query_scalar(&format!("select to_jsonb(t)::text from {table} t")).fetch_all(read).await.unwrap();
        all.insert(table, rows.into_iter().collect());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_patients_are_gone_and_the_others_stay_row_for_row() {
    let world = World::with_models(0, &[]).await;
    migrate_models(&world.read, &all_read_models()).await.unwrap();
    let engine = Engine::start(&world.config(), read_models());
    let (mut erased, mut needles) = (Vec::new(), Vec::new());
    for number in 0..PATIENTS {
        let (id, ids) = admit(&world, number).await;
        if number % (PATIENTS / ERASED_PATIENTS) == 0 {
            erased.push(id);
            needles.extend(ids.iter().map(Uuid::to_string));
            needles.push(hex(&member_of(&world.keyring, id)));
            needles.extend(ids.iter().map(|id| hex(&condition_of(&world.keyring, *id))));
        }
    }
    let admitted = world.history.lock().unwrap().clone();
    world.produce(&admitted).await;
    wait_level(&world, &world.read).await;
    let before = rows(&world.read).await;
    assert!(before.values().filter(|rows| rows.len() >= PATIENTS).count() >= 12, "every read model has rows");

    let mut events = Vec::new();
    for id in &erased {
        events.push(erase(&world, *id).await);
    }
    world.produce(&events).await;
    wait_level(&world, &world.read).await;
    let after = rows(&world.read).await;
    let is_left = |row: &&String| !needles.iter().any(|needle| row.contains(needle));
    let mut dropped = 0;
    for (table, rows) in &before {
        let expected: BTreeSet<String> = rows.iter().filter(is_left).cloned().collect();
        assert_eq!(after[table], expected, "{table}");
        dropped += rows.len() - expected.len();
    }
    let mut written = 0;
    for (id, event) in erased.iter().zip(&events) {
        let of_it = of_subject(&world.read, *id).await.unwrap();
        assert_eq!(of_it.len(), read_models().len());
        assert!(of_it.iter().all(|it| it.position == Some(event.position)));
        written += of_it.iter().map(|it| it.rows).sum::<i64>();
    }
    assert_eq!(written, i64::try_from(dropped).unwrap(), "what was dropped is written down");

    for event in &events {
        destroy_key(&world, event).await;
    }
    let again = database(&postgres(), &format!("{}_again", world.name)).await;
    migrate_models(&again, &all_read_models()).await.unwrap();
    let mut config = world.config();
    config.read_database = postgres().database(&format!("{}_again", world.name)).username("nexus_projector");
    config.group_prefix = format!("{}.again.", world.name);
    let rebuild = Engine::start(&config, read_models());
    wait_level(&world, &again).await;
    for model in read_models() {
        let schema = schema_of(model.name(), model.version());
        let hashes = row_hashes(&world.read, &schema).await.unwrap();
        assert_eq!(hashes, row_hashes(&again, &schema).await.unwrap(), "{schema}");
    }
    let parked: i64 = sqlx::query_scalar("select count(*) from projection.parked").fetch_one(&again).await.unwrap();
    assert_eq!(parked, 0);
    rebuild.stop().await;
    engine.stop().await;
    again.close().await;
    let admin = PgPool::connect_with(postgres()).await.unwrap();
    let drop = format!("drop database \"{}_again\" with (force)", world.name);
    sqlx::query(&drop).execute(&admin).await.unwrap();
    world.gone().await;
}

/// The read model wants no events of patients, and the key is still there: the header is enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_parked_patient_leaves_the_queue_when_erased() {
    const NAME: Name<'_> = Name { read_model: "toy", version: 1 };
    let world = World::new(10).await;
    let toy = Toy::named("toy");
    let events = world.append(400).await;
    let victim = world.subjects[3];
    let bad = events.iter().filter(|event| event.header.subject == victim).nth(5).unwrap();
    toy.poison.lock().unwrap().insert(bad.header.aggregate_id, Poison::Code);
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.produce(&events).await;
    world.wait_caught_up(&toy).await;
    let waiting = list(&world.read, NAME, 10).await.unwrap()[0].waiting;
    let erasing = erase(&world, victim).await;
    world.produce(std::slice::from_ref(&erasing)).await;
    world.wait_caught_up(&toy).await;
    assert_eq!(list(&world.read, NAME, 10).await.unwrap(), vec![]);
    assert!(!world.rows(&toy).await.contains_key(&victim));
    let written = of_subject(&world.read, victim).await.unwrap();
    assert_eq!(written.len(), 1);
    assert_eq!((written[0].rows, written[0].parked, written[0].position), (1, waiting, Some(erasing.position)));
    let left: i64 = sqlx::query_scalar("select sum(parked)::bigint from projection.checkpoints")
        .fetch_one(&world.read)
        .await
        .unwrap();
    assert_eq!(left, 0);
    engine.stop().await;
    world.gone().await;
}

/// As jsonb shows bytes.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
