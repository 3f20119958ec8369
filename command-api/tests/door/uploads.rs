//! How bundles and commands may come: slowly, in chunks, compressed, and by whichever of the ways in which clients write the
//! same request.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use nexus_testkit::{Answer, Caller, Role};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use crate::world::{World, bundle, create, fhir_observation, fhir_patient, fresh, patient, post_bundle};

const FHIR_JSON: &str = "application/fhir+json";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn one_patient() -> Value {
    bundle("transaction", &[create(fhir_patient(Uuid::new_v4(), &fresh("mrn")))])
}

async fn send(caller: &Caller, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let request = caller.request(Method::POST, path).header("content-type", FHIR_JSON).body(body);
    headers.iter().fold(request, |request, (name, value)| request.header(name, value)).answer().await
}

/// The head of a bundle that comes in chunks.
async fn open_chunked(world: &World) -> TcpStream {
    let address = world.url.trim_start_matches("http://");
    let token = world.issuer.token(Role::Service);
    let head = format!(
        "POST /fhir HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: {FHIR_JSON}\r\n\
         connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let mut connection = TcpStream::connect(address).await.expect("the door listens");
    connection.write_all(head.as_bytes()).await.expect("the head is sent");
    connection
}

async fn whole_answer(mut connection: TcpStream) -> String {
    let mut answer = String::new();
    timeout(Duration::from_secs(60), connection.read_to_string(&mut answer))
        .await
        .expect("it ends")
        .expect("it arrives");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_uploads_keep_nobody_out_and_a_fast_one_of_60_mib_is_taken() {
    let world = World::start().await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        let mut connection = open_chunked(&world).await;
        connection.write_all(b"1\r\n{\r\n").await.expect("a beginning is sent");
        idle.push(connection);
    }
    post_bundle(&world.service(), &one_patient()).await.expect(200);

    let mut fast = open_chunked(&world).await;
    let text = one_patient().to_string();
    fast.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.expect("the bundle is sent");
    let megabyte = format!("{:x}\r\n{}\r\n", 1024 * 1024, " ".repeat(1024 * 1024));
    for _ in 0..60 {
        fast.write_all(megabyte.as_bytes()).await.expect("space is sent");
    }
    fast.write_all(b"0\r\n\r\n").await.expect("the end is sent");
    assert!(whole_answer(fast).await.starts_with("HTTP/1.1 200"));
    for connection in idle {
        let answer = whole_answer(connection).await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("/problems/body-too-slow"), "{answer}");
    }
    assert_eq!(world.events().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_request_is_the_same_request() {
    let world = World::start().await;
    let (service, registrar) = (world.service(), world.caller(Role::Registrar));
    let text = one_patient().to_string().into_bytes();
    let halves = [gzip(&text[..100]), gzip(&text[100..])].concat();
    let key = Uuid::new_v4().to_string();
    let plain = send(&service, "/fhir", &[("idempotency-key", &key)], text.clone()).await.expect(200);
    for (coding, body) in [("gzip", gzip(&text)), ("X-Gzip", halves), ("identity", text)] {
        let again = send(&service, "/fhir", &[("idempotency-key", &key), ("content-encoding", coding)], body).await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"), "{coding}: {}", again.text);
        assert_eq!(
            (again.text, again.headers["nexus-position"].clone()),
            (plain.text.clone(), plain.headers["nexus-position"].clone())
        );
    }
    let command = patient(&fresh("mrn")).to_string().into_bytes();
    let key = Uuid::new_v4().to_string();
    let coded = [("idempotency-key", key.as_str()), ("content-encoding", "gzip")];
    send(&registrar, "/v1/patients", &coded, gzip(&command)).await.expect(201);
    let again = send(&registrar, "/v1/patients", &coded[..1], command).await.expect(201);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(world.events().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_body_that_is_too_large_or_none_is_refused() {
    let world = World::start().await;
    let bomb = gzip(&vec![b' '; 256 * 1024 * 1024]);
    for (caller, path) in [(world.service(), "/fhir"), (world.caller(Role::Registrar), "/v1/patients")] {
        let coded = |coding: &'static str, body: Vec<u8>| {
            let caller = caller.clone();
            async move { send(&caller, path, &[("content-encoding", coding)], body).await }
        };
        coded("gzip", bomb.clone()).await.problem(413, "body-too-large");
        coded("gzip", gzip(b"{}")[..12].to_vec()).await.problem(400, "malformed-encoding");
        coded("gzip", b"{}".to_vec()).await.problem(400, "malformed-encoding");
        let other = coded("deflate", b"{}".to_vec()).await;
        other.problem(415, "unsupported-media-type");
        assert_eq!(other.header("accept-encoding"), Some("gzip, identity"));
    }
    post_bundle(&world.service(), &one_patient()).await.expect(200);
    assert_eq!(world.events().await, 1, "what was refused has left no trace, and its room is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_form_of_the_answer_is_settled_before_anything_is_stored() {
    let world = World::start().await;
    let service = world.service();
    let text = || one_patient().to_string().into_bytes();
    for query in ["_format=xml", "_format=application%2Ffhir%2Bxml", "_format=ttl"] {
        send(&service, &format!("/fhir?{query}"), &[], text()).await.problem(406, "not-acceptable");
    }
    send(&service, "/fhir", &[("accept", "application/fhir+xml")], text()).await.problem(406, "not-acceptable");
    send(&service, "/fhir?_pretty=maybe", &[], text()).await.problem(400, "invalid-parameter");
    assert_eq!(world.events().await, 0);
    for path in ["/fhir/", "/fhir?_format=json", "/fhir/?_format=application/fhir+json", "/fhir?_pretty=false"] {
        send(&service, path, &[("accept", "*/*;q=0.1")], text()).await.expect(200);
    }
    let pretty = send(&service, "/fhir?_pretty=true&_format=json", &[], text()).await.expect(200);
    assert!(pretty.text.starts_with("{\n  \"resourceType\": \"Bundle\",\n"), "{}", pretty.text);
    assert_eq!(pretty.json()["type"], "transaction-response");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_bundle_is_an_outcome_for_who_speaks_fhir() {
    let world = World::start().await;
    let in_fhir = [("accept", FHIR_JSON)];
    let mut undated = fhir_patient(Uuid::new_v4(), &fresh("mrn"));
    undated["birthDate"] = json!("31.12.1999");
    let astray = fhir_observation(Uuid::new_v4(), &format!("Patient/{}", Uuid::new_v4()));
    let bad = bundle("transaction", &[create(undated), create(astray)]).to_string();
    let answer = send(&world.service(), "/fhir", &in_fhir, bad.clone().into_bytes()).await.expect(422);
    assert_eq!(answer.header("content-type"), Some(FHIR_JSON));
    let outcome = answer.json();
    let issues = outcome["issue"].as_array().expect("issues");
    let at = |path: &str| issues.iter().find(|issue| issue["expression"][0] == path);
    let date = at("Bundle.entry[0].resource.birthDate").unwrap_or_else(|| panic!("{outcome:#}"));
    assert_eq!(date["details"]["coding"][0]["code"], "bad-date");
    assert_eq!(date["details"]["coding"][1]["code"], "invalid-value");
    assert!(!date["details"]["text"].as_str().unwrap_or_default().is_empty());
    let reference = at("Bundle.entry[1].resource.subject.reference").unwrap_or_else(|| panic!("{outcome:#}"));
    assert_eq!(reference["code"], "not-found");
    assert!(!answer.text.contains("31.12.1999"), "an outcome holds nothing that was sent");
    send(&world.service(), "/fhir", &[], bad.into_bytes()).await.problem(422, "invalid-value");

    let key = Uuid::new_v4().to_string();
    let keyed = [("accept", FHIR_JSON), ("idempotency-key", key.as_str())];
    send(&world.service(), "/fhir", &keyed, one_patient().to_string().into_bytes()).await.expect(200);
    let reused = send(&world.service(), "/fhir", &keyed, one_patient().to_string().into_bytes()).await.expect(422);
    assert_eq!(reused.json()["issue"][0]["details"]["coding"][0]["code"], "idempotency-key-reused");
    let nurse = send(&world.caller(Role::Nurse), "/fhir", &in_fhir, b"{}".to_vec()).await.expect(403);
    assert_eq!(nurse.json()["issue"][0]["code"], "forbidden");
    let nobody = send(&Caller::anonymous(&world.url), "/fhir", &in_fhir, b"{}".to_vec()).await.expect(401);
    assert_eq!(
        (nobody.json()["issue"][0]["code"].as_str(), nobody.headers.contains_key("www-authenticate")),
        (Some("login"), true)
    );
    let command = send(&world.caller(Role::Registrar), "/v1/patients", &in_fhir, b"{".to_vec()).await;
    command.problem(400, "malformed-json");
}
