//! The same request twice.

use std::time::Duration;

use futures::future::join_all;
use nexus_testkit::{Caller, Role, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{
    World, bundle, create, fhir_observation, fhir_patient, fresh, heart_rate, id_of, patient, penicillin,
    penicillin_allergy, post_with,
};

/// Sends again while the first one is being carried out.
async fn settled(caller: &Caller, path: &str, key: &str, body: &Value) -> nexus_testkit::Answer {
    eventually("the request is settled", Duration::from_secs(20), async || {
        let answer = post_with(caller, path, key, body).await;
        if answer.status != 409 {
            return Some(answer);
        }
        answer.problem(409, "idempotency-in-flight");
        assert_eq!(answer.header("retry-after"), Some("1"));
        None
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_retries_under_one_key_one_counts() {
    let mut world = World::start().await;
    let second = world.another_door().await;
    let token = world.issuer.token(Role::Nurse);
    let doors = [world.url.clone(), second].map(|url| Caller::with_token(url, &token));
    let id = world.patient().await;
    let (path, key, body) = (format!("/v1/patients/{id}/observations"), fresh("key"), heart_rate("72"));
    let answers = join_all((0..64).map(|at| settled(&doors[at % 2], &path, &key, &body))).await;
    assert_eq!(world.events().await, 2, "the patient and one observation");
    let first = &answers[0];
    for answer in &answers {
        assert_eq!((answer.status.as_u16(), &answer.text), (201, &first.text));
        assert_eq!(answer.header("nexus-position"), first.header("nexus-position"));
    }
    let replayed = answers.iter().filter(|answer| answer.header("idempotency-replayed") == Some("true")).count();
    assert_eq!(replayed, 63);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_belongs_to_one_request_of_one_caller() {
    let world = World::start().await;
    let (nurse, registrar) = (world.caller(Role::Nurse), world.caller(Role::Registrar));
    let id = world.patient().await;
    let (path, key) = (format!("/v1/patients/{id}/observations"), fresh("key"));
    post_with(&nurse, &path, &key, &heart_rate("72")).await.expect(201);
    post_with(&nurse, &path, &key, &heart_rate("73")).await.problem(422, "idempotency-key-reused");
    let elsewhere = format!("/v1/patients/{}/observations", world.patient().await);
    post_with(&nurse, &elsewhere, &key, &heart_rate("72")).await.problem(422, "idempotency-key-reused");
    post_with(&registrar, "/v1/patients", &key, &patient(&fresh("mrn"))).await.expect(201);
    let long = "k".repeat(300);
    post_with(&nurse, &path, &long, &heart_rate("72")).await.problem(400, "invalid-parameter");
}

/// A retry gets the first answer, though the state has moved on and the command would be refused or have nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_is_told_what_happened_then() {
    let world = World::start().await;
    let physician = world.caller(Role::Physician);
    let id = world.patient().await;
    let body = json!({"code": {"system": "http://snomed.info/sct", "code": "44054006"}});
    let recorded = physician.post(&format!("/v1/patients/{id}/conditions"), &body).await.expect(201).json();
    let condition = format!("/v1/conditions/{}", recorded["id"].as_str().unwrap_or_default());
    let (resolve, key) = (format!("{condition}/resolve"), fresh("key"));
    let first = post_with(&physician, &resolve, &key, &json!({})).await.expect(200);
    let repeated = post_with(&physician, &resolve, &key, &json!({})).await.expect(200);
    assert_eq!((&repeated.text, repeated.header("idempotency-replayed")), (&first.text, Some("true")));

    physician.post(&format!("{condition}/entered-in-error"), &json!({})).await.expect(200);
    let late = post_with(&physician, &resolve, &key, &json!({})).await.expect(200);
    assert_eq!((&late.text, late.header("idempotency-replayed")), (&first.text, Some("true")));

    let request = || physician.request(Method::POST, &format!("{condition}/entered-in-error"));
    let wrong = || request().header("if-match", "\"2\"").header("idempotency-key", "late").json(&json!({})).answer();
    wrong().await.problem(412, "version-mismatch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_sent_again_under_its_key_is_answered_as_before() {
    let world = World::start().await;
    let service = world.service();
    for kind in ["transaction", "batch"] {
        let (patient, observation) = (Uuid::new_v4(), Uuid::new_v4());
        let entries = [
            create(fhir_patient(patient, &fresh("mrn"))),
            create(fhir_observation(observation, &format!("Patient/{patient}"))),
        ];
        let (sent, key) = (bundle(kind, &entries).to_string(), fresh("key"));
        let first = service.post_fhir(sent.clone(), &key).await.expect(200);
        assert_eq!(first.header("idempotency-replayed"), None);
        let before = world.events().await;
        let second = service.post_fhir(sent, &key).await.expect(200);
        assert_eq!((&second.text, second.position()), (&first.text, first.position()), "{kind}");
        assert_eq!(second.header("idempotency-replayed"), Some("true"));
        assert_eq!(world.events().await, before);
        service.post_fhir(bundle(kind, &[]).to_string(), &key).await.problem(422, "idempotency-key-reused");
    }
}

/// An answer that stored nothing is an answer, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_is_told_that_there_was_nothing_to_do() {
    let world = World::start().await;
    let physician = world.caller(Role::Physician);
    let id = world.patient().await;
    let body = json!({"code": {"system": "http://snomed.info/sct", "code": "44054006"}});
    let condition = id_of(&physician.post(&format!("/v1/patients/{id}/conditions"), &body).await.expect(201));
    let (resolve, key) = (format!("/v1/conditions/{condition}/resolve"), fresh("key"));
    physician.post(&resolve, &json!({})).await.expect(200);
    let first = post_with(&physician, &resolve, &key, &json!({})).await.expect(200);
    assert_eq!((first.header("idempotency-replayed"), first.header("nexus-position")), (None, None));
    physician.post(&format!("/v1/conditions/{condition}/entered-in-error"), &json!({})).await.expect(200);
    let late = post_with(&physician, &resolve, &key, &json!({})).await.expect(200);
    assert_eq!((&late.text, late.header("idempotency-replayed")), (&first.text, Some("true")));
    assert_eq!(late.header("nexus-position"), None);
    post_with(&physician, &resolve, &key, &json!({"x": 1})).await.problem(400, "invalid-body");

    // The same of a bundle.
    let service = world.service();
    let (patient, observation) = (Uuid::new_v4(), Uuid::new_v4());
    let entries = [
        create(fhir_patient(patient, &fresh("mrn"))),
        create(fhir_observation(observation, &format!("Patient/{patient}"))),
    ];
    let (sent, key) = (bundle("transaction", &entries).to_string(), fresh("key"));
    service.post_fhir(sent.clone(), &fresh("key")).await.expect(200);
    let first = service.post_fhir(sent.clone(), &key).await.expect(200);
    let deleted = json!({"request": {"method": "DELETE", "url": format!("Observation/{observation}")}});
    service.post_fhir(bundle("transaction", &[deleted]).to_string(), &fresh("key")).await.expect(200);
    let late = service.post_fhir(sent, &key).await.expect(200);
    assert_eq!((&late.text, late.header("idempotency-replayed")), (&first.text, Some("true")));
}

/// Its sender was told no: a copy that arrives late must not take effect. What is refused for its form is judged again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_of_what_a_rule_refused_is_refused() {
    let world = World::start().await;
    let (physician, registrar) = (world.caller(Role::Physician), world.caller(Role::Registrar));
    let id = world.patient().await;
    let allergies = format!("/v1/patients/{id}/allergies");
    let allergy = id_of(&physician.post(&allergies, &penicillin_allergy()).await.expect(201));
    let (orders, key) = (format!("/v1/patients/{id}/medication-orders"), fresh("key"));
    let first = post_with(&physician, &orders, &key, &penicillin()).await;
    assert_eq!(first.problem(409, "rule-violated")["rule"], "active-allergy");
    assert_eq!(first.header("idempotency-replayed"), None);
    physician.post(&format!("/v1/allergies/{allergy}/refute"), &json!({})).await.expect(200);
    let late = post_with(&physician, &orders, &key, &penicillin()).await;
    assert_eq!(late.problem(409, "rule-violated")["detail"], first.problem(409, "rule-violated")["detail"]);
    assert_eq!(late.header("idempotency-replayed"), Some("true"));
    physician.post(&orders, &penicillin()).await.expect(201);

    let mrn = fresh("mrn");
    let holder = id_of(&registrar.post("/v1/patients", &patient(&mrn)).await.expect(201));
    let key = fresh("key");
    post_with(&registrar, "/v1/patients", &key, &patient(&mrn)).await.problem(409, "claim-taken");
    registrar.put(&format!("/v1/patients/{holder}"), &patient(&fresh("mrn"))).await.expect(200);
    let late = post_with(&registrar, "/v1/patients", &key, &patient(&mrn)).await;
    assert_eq!(late.problem(409, "claim-taken")["rule"], "medical-record-number");

    let put = |key: &'static str| {
        let request = registrar.request(Method::PUT, &format!("/v1/patients/{holder}"));
        let body = patient(&mrn);
        async move { request.header("if-match", "\"3\"").header("idempotency-key", key).json(&body).answer().await }
    };
    assert_eq!(put("early").await.problem(412, "version-mismatch")["current_version"], 2);
    registrar.put(&format!("/v1/patients/{holder}"), &patient(&fresh("mrn"))).await.expect(200);
    assert_eq!(put("early").await.problem(412, "version-mismatch")["current_version"], 2);
    put("now").await.expect(200);
}
