//! Bad input, each with its problem, and nothing of it stored.

use std::time::Duration;

use nexus_testkit::{Answer, Caller, Role, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::world::{
    World, bundle, create, errors, fhir_observation, fhir_patient, fresh, heart_rate, patient, post_bundle,
};

async fn raw(caller: &Caller, path: &str, media_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    caller.request(Method::POST, path).header("content-type", media_type).body(body.into()).answer().await
}

/// A text that must not come back in any answer.
const MARKER: &str = "Zebrafink";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_not_what_they_should_be() {
    let world = World::start().await;
    let registrar = world.caller(Role::Registrar);
    let deep = format!("{{\"names\": {}1{}}}", "[".repeat(70), "]".repeat(70));
    let long = format!("{{\"gender\": \"{}\"}}", "x".repeat(1024 * 1024));
    let json = "application/json";
    let cases: Vec<(&str, String, &str, u16, &str)> = vec![
        ("malformed", "{\"names\": [".to_owned(), json, 400, "malformed-json"),
        ("empty", String::new(), json, 400, "malformed-json"),
        ("two values", "{} {}".to_owned(), json, 400, "malformed-json"),
        ("wrong type", format!("{{\"gender\": [\"{MARKER}\"]}}"), json, 400, "invalid-body"),
        ("number as text", "{\"birthDate\": 1985}".to_owned(), json, 400, "invalid-body"),
        ("unknown member", format!("{{\"{MARKER}\": 1}}"), json, 400, "invalid-body"),
        ("repeated member", "{\"gender\": \"male\", \"gender\": \"female\"}".to_owned(), json, 400, "invalid-body"),
        ("missing member", "{\"identifiers\": [{\"type\": \"MR\"}]}".to_owned(), json, 400, "invalid-body"),
        (
            "unknown identifier type",
            "{\"identifiers\": [{\"type\": \"XX\", \"system\": \"a\", \"value\": \"b\"}]}".to_owned(),
            json,
            400,
            "invalid-body",
        ),
        ("too deep", deep, json, 400, "too-deep"),
        ("too large", long, json, 413, "body-too-large"),
        ("media type", patient("1").to_string(), "text/plain", 415, "unsupported-media-type"),
        ("xml", "<Patient/>".to_owned(), "application/fhir+xml", 415, "unsupported-media-type"),
    ];
    for (name, body, media_type, status, slug) in cases {
        let answer = raw(&registrar, "/v1/patients", media_type, body).await;
        assert_eq!((answer.status.as_u16(), name), (status, name), "{}", answer.text);
        answer.problem(status, slug);
        assert!(!answer.text.contains(MARKER), "{name} repeats what was sent");
    }
    assert_eq!(world.events().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_can_not_be_right() {
    let world = World::start().await;
    let physician = world.caller(Role::Physician);
    let registrar = world.caller(Role::Registrar);
    let id = world.patient().await;
    let with = |mut body: Value, pointer: &str, value: Value| {
        match body.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => body[&pointer[1..]] = value,
        }
        body
    };
    let observation = || heart_rate("72");
    let huge: Value = serde_json::from_str("1e400").expect("a number");
    let condition = || json!({"code": {"system": "http://snomed.info/sct", "code": "44054006"}});
    let cases = [
        ("/v1/patients", with(patient("a"), "/birthDate", json!("12.4.1985")), "bad-date"),
        ("/v1/patients", with(patient("a"), "/birthDate", json!("1985-02-30")), "bad-date"),
        ("/v1/patients", with(patient("a"), "/birthDate", json!("2185-01-01")), "in-the-future"),
        ("/v1/patients", with(patient("a"), "/gender", json!("F")), "unknown-code"),
        ("observations", with(observation(), "/effectiveAt", json!("yesterday")), "bad-date"),
        ("observations", with(observation(), "/effectiveAt", json!("2185-01-01T00:00:00Z")), "in-the-future"),
        ("observations", with(observation(), "/status", json!("done")), "unknown-code"),
        ("observations", with(observation(), "/value/value", json!(4000)), ""),
        ("observations", with(observation(), "/value/code", json!("bpm")), ""),
        ("/v1/patients", with(patient("a"), "/names/0/family", json!("\0")), "control-character"),
        ("observations", with(observation(), "/code/code", json!("8867\0")), "control-character"),
        ("observations", with(observation(), "/value/value", huge), "number-out-of-range"),
        ("conditions", with(condition(), "/clinicalStatus", json!("bad")), "unknown-code"),
        ("conditions", with(condition(), "/onset", json!("March")), "bad-date"),
    ];
    for (path, body, code) in cases {
        let (caller, path) = match path {
            "/v1/patients" => (&registrar, path.to_owned()),
            rest => (&physician, format!("/v1/patients/{id}/{rest}")),
        };
        let answer = caller.post(&path, &body).await;
        assert_eq!(answer.status.as_u16(), 422, "{body}: {}", answer.text);
        let problem = answer.problem(422, "invalid-value");
        let found = errors(&problem);
        assert!(code.is_empty() || found[0].1 == code, "{body}: {found:?}");
    }
    let death = format!("/v1/patients/{id}/death");
    physician.post(&death, &json!({"diedAt": "2026-13-01"})).await.problem(400, "invalid-body");
    physician.post(&death, &json!({"diedAt": "2185-01-01T00:00:00Z"})).await.expect(422);
    assert_eq!(world.events().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_and_methods_that_do_not_exist() {
    let world = World::start().await;
    let nurse = world.caller(Role::Nurse);
    nurse.post("/v1/patients/not-an-id/observations", &heart_rate("72")).await.problem(404, "not-found");
    nurse.post("/v1/nothing", &json!({})).await.problem(404, "not-found");
    nurse.delete("/v1/patients").await.problem(405, "method-not-allowed");
    nurse.get("/fhir").await.problem(405, "method-not-allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_that_are_not_what_they_should_be() {
    let world = World::start().await;
    let service = world.service();
    let entry = || create(fhir_patient(Uuid::new_v4(), &fresh("mrn")));
    let mut headless = entry();
    headless.as_object_mut().map(|entry| entry.remove("request"));
    let mut shapeless = bundle("transaction", &[entry()]);
    shapeless["surprise"] = json!(MARKER);
    let crowd = vec![json!({"request": {"method": "DELETE", "url": "Patient/x"}}); 20_001];
    let mut heavy = entry();
    heavy["resource"]["photo"] = json!([{"data": "QUJD".repeat(512 * 1024)}]);
    let deep: Value = (0..70).fold(json!(1), |inner, _| json!([inner]));
    let mut nested = entry();
    nested["resource"]["extension"] = deep;
    let cases = [
        ("not a bundle", fhir_patient(Uuid::new_v4(), "x"), 400, "invalid-body"),
        ("wrong resource type", json!({"resourceType": "Patient", "type": "transaction"}), 422, "invalid-value"),
        ("wrong kind", bundle("searchset", &[]), 422, "invalid-value"),
        ("unknown member", shapeless, 400, "invalid-body"),
        ("no request", bundle("transaction", &[headless]), 422, "invalid-value"),
        ("entry list is no list", json!({"resourceType": "Bundle", "type": "batch", "entry": {}}), 400, "invalid-body"),
        ("too many entries", bundle("transaction", &crowd), 413, "batch-too-large"),
        ("one resource too large", bundle("transaction", &[heavy]), 422, "invalid-value"),
        ("too deep", bundle("transaction", &[nested]), 400, "too-deep"),
    ];
    for (name, body, status, slug) in cases {
        let answer = post_bundle(&service, &body).await;
        assert_eq!((name, answer.status.as_u16()), (name, status), "{}", answer.text);
        answer.problem(status, slug);
        assert!(!answer.text.contains(MARKER), "{name} repeats what was sent");
    }
    assert_eq!(world.events().await, 0);
}

/// Sends the head of a bundle that is announced to have this many bytes, and none of them. Who expects to be told to go on
/// is answered at once if not.
async fn announce(world: &World, role: Role, bytes: usize) -> TcpStream {
    let address = world.url.trim_start_matches("http://");
    let head = format!(
        "POST /fhir HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: application/fhir+json\r\n\
         expect: 100-continue\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n",
        world.issuer.token(role),
    );
    let mut connection = TcpStream::connect(address).await.expect("the door listens");
    connection.write_all(head.as_bytes()).await.expect("the head is sent");
    connection
}

/// What can be refused without the body is refused before it is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_is_refused_before_it_is_sent() {
    let world = World::start().await;
    let cases = [
        (Role::Service, 64 * 1024 * 1024 + 1, "HTTP/1.1 413", "/problems/body-too-large"),
        (Role::Nurse, 64 * 1024 * 1024, "HTTP/1.1 403", "/problems/forbidden"),
    ];
    for (role, bytes, status, problem) in cases {
        let mut connection = announce(&world, role, bytes).await;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.expect("there is an answer");
        assert!(answer.starts_with(status) && answer.contains(problem), "{answer}");
    }
}

/// Only so many bytes of bundles are held at a time. What is merely announced takes no room, so these are sent but for the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_for_which_there_is_no_room_are_told_to_come_back() {
    let world = World::start().await;
    let service = world.service();
    let small = bundle("transaction", &[create(fhir_patient(Uuid::new_v4(), &fresh("mrn")))]);
    let mut unfinished = Vec::new();
    let spaces = vec![b' '; 64 * 1024 * 1024 - 1];
    for _ in 0..2 {
        let mut connection = announce(&world, Role::Service, 64 * 1024 * 1024).await;
        connection.write_all(&spaces).await.expect("it is taken");
        unfinished.push(connection);
    }
    // Who asks by announcing takes no room from those that still grow.
    let refused = eventually("the room is full", Duration::from_secs(60), async || {
        let mut announced = announce(&world, Role::Service, 1).await;
        let mut status = [0; 12];
        announced.read_exact(&mut status).await.expect("there is an answer");
        (&status != b"HTTP/1.1 100").then_some(status)
    })
    .await;
    assert_eq!(&refused, b"HTTP/1.1 503");
    let refused = post_bundle(&service, &small).await;
    refused.problem(503, "overloaded");
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(unfinished);
    eventually("there is room again", Duration::from_secs(20), async || {
        Some(post_bundle(&service, &small).await).filter(|answer| answer.status == 200)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_with_bad_entries_stores_nothing_and_names_each() {
    let world = World::start().await;
    let service = world.service();
    let id = Uuid::new_v4();
    let subject = format!("urn:uuid:{id}");
    let observation = || fhir_observation(Uuid::new_v4(), &subject);
    let mut undated = observation();
    undated["effectiveDateTime"] = json!(MARKER);
    let mut unknown = observation();
    unknown["surprise"] = json!(MARKER);
    let mut astray = observation();
    astray["encounter"] = json!({"reference": format!("urn:uuid:{}", Uuid::new_v4())});
    let mut hollow = observation();
    hollow["performer"] = json!([{"reference": "#nobody"}]);
    let mut nowhere = observation();
    nowhere["performer"] = json!([{"reference": format!("Practitioner?identifier=urn:x|{MARKER}")}]);
    let mut absent = observation();
    absent["encounter"] = json!({"reference": format!("Encounter/{}", Uuid::new_v4())});
    let mut fetched = create(observation());
    fetched["request"]["method"] = json!("GET");
    let mut entries = vec![create(fhir_patient(id, &fresh("mrn"))), create(observation())];
    entries.extend([undated, unknown, astray, hollow, nowhere, absent].map(create));
    entries.push(fetched);
    entries.push(
        json!({"resource": {"resourceType": "Subscription"}, "request": {"method": "POST", "url": "Subscription"}}),
    );

    let answer = post_bundle(&service, &bundle("transaction", &entries)).await;
    let problem = answer.problem(422, "invalid-value");
    let mut found = errors(&problem);
    found.sort();
    let expected = [
        ("/entry/2/resource/effectiveDateTime", "bad-date"),
        ("/entry/3/resource", "unknown-element"),
        ("/entry/4/resource/encounter/reference", "unresolved-reference"),
        ("/entry/5/resource/performer/0/reference", "unresolved-reference"),
        ("/entry/6/resource/performer/0/reference", "unresolved-reference"),
        ("/entry/7/resource/encounter/reference", "unresolved-reference"),
        ("/entry/8/request/method", "unsupported-request"),
        ("/entry/9/request/url", "unsupported-type"),
    ];
    let expected = expected.map(|(pointer, code)| (pointer.to_owned(), code.to_owned()));
    assert_eq!(found, expected, "{}", answer.text);
    assert!(!answer.text.contains(MARKER));
    assert_eq!(world.events().await, 0);

    let only = [create(fhir_patient(id, &fresh("mrn"))), entries[4].clone()];
    post_bundle(&service, &bundle("transaction", &only)).await.problem(422, "unresolved-reference");
    let many: Vec<Value> =
        (0..150).map(|_| create(json!({"resourceType": "Procedure", "id": Uuid::new_v4(), "x": null}))).collect();
    let problem = post_bundle(&service, &bundle("transaction", &many)).await.problem(422, "invalid-value");
    assert_eq!(errors(&problem).len(), 100);
}
