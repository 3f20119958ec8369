//! Forgetting a patient through the door: who may, what refuses, and what is left to ask.

use std::time::Duration;

use nexus_testkit::{Answer, Caller, Role, eventually};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{
    World, appointment, bundle, create, errors, fhir_observation, fhir_patient, fresh, heart_rate, id_of, patient,
    post_bundle, post_with,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn why() -> Value {
    json!({"reason": "The patient asks for it."})
}

fn at(id: Uuid, what: &str) -> String {
    format!("/v1/patients/{id}/{what}")
}

/// Asks and approves; answers the approval.
async fn erase(world: &World, id: Uuid) -> Answer {
    world.caller(Role::Registrar).post(&at(id, "erasure"), &why()).await.expect(200);
    world.caller(Role::Auditor).post(&at(id, "erasure/approve"), &json!({})).await.expect(200)
}

/// The state of a subject's key.
async fn key_state(world: &World, id: Uuid) -> Option<(String, bool)> {
    let pool = world.keys.pool().await;
    let row = sqlx::query_as("select state, wrapped is null from subject_keys where subject = $1").bind(id);
    let row = row.fetch_optional(&pool).await.expect("the key store answers");
    pool.close().await;
    row
}

async fn on_keys(world: &World, statement: &str) {
    let pool = world.keys.pool().await;
    sqlx::raw_sql(statement).execute(&pool).await.expect("the key store takes it");
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_asks_another_approves_and_a_hold_refuses() {
    let world = World::start().await;
    let id = world.patient().await;
    let (registrar, auditor) = (world.caller(Role::Registrar), world.caller(Role::Auditor));
    let both = Caller::with_token(
        &world.url,
        world.issuer.mint(&world.issuer.claims("both", &[Role::Registrar, Role::Auditor], None)),
    );
    let approve = at(id, "erasure/approve");
    assert_eq!(rule(auditor.post(&approve, &json!({})).await), "erasure-not-requested");
    auditor.post(&at(id, "erasure"), &why()).await.problem(403, "forbidden");
    world.caller(Role::Physician).post(&at(id, "erasure"), &why()).await.problem(403, "forbidden");
    both.post(&at(id, "erasure"), &why()).await.expect(200);
    assert_eq!(
        rule(registrar.post(&at(id, "erasure"), &json!({"reason": "so do I"})).await),
        "erasure-already-requested"
    );
    assert_eq!(rule(both.post(&approve, &json!({})).await), "erasure-needs-second-person");
    registrar.post(&approve, &json!({})).await.problem(403, "forbidden");
    auditor.post(&at(id, "legal-hold"), &json!({"reason": "a lawsuit"})).await.expect(200);
    assert_eq!(rule(auditor.post(&approve, &json!({})).await), "legal-hold");
    auditor.post(&at(id, "legal-hold/release"), &json!({"reason": "it is over"})).await.expect(200);
    registrar.post(&at(id, "erasure/withdraw"), &json!({})).await.expect(200);
    assert_eq!(rule(auditor.post(&approve, &json!({})).await), "erasure-not-requested");
    world.caller(Role::Nurse).post(&at(id, "observations"), &heart_rate("71")).await.expect(201);
    assert_eq!(key_state(&world, id).await, Some(("active".to_owned(), false)));
}

fn rule(answer: Answer) -> String {
    answer.problem(409, "rule-violated")["rule"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_patient_is_no_longer_there_for_any_command() {
    let mut world = World::start().await;
    let mrn = fresh("mrn");
    let (registrar, nurse) = (world.caller(Role::Registrar), world.caller(Role::Nurse));
    let id = id_of(&registrar.post("/v1/patients", &patient(&mrn)).await.expect(201));
    world.take_into_care(id).await;
    let doctor = world.practitioner("1").await;
    let slot = appointment(doctor, "2027-03-01T09:00:00Z", "2027-03-01T09:30:00Z");
    registrar.post(&at(id, "appointments"), &slot).await.expect(201);
    let observation = id_of(&nurse.post(&at(id, "observations"), &heart_rate("71")).await.expect(201));
    // Another instance has patient and observation in memory.
    let second = Caller::with_token(world.another_door().await, world.issuer.token(Role::Nurse));
    second.post(&format!("/v1/observations/{observation}/amend"), &heart_rate("72")).await.expect(200);

    registrar.post(&at(id, "erasure"), &why()).await.expect(200);
    let auditor = world.caller(Role::Auditor);
    let key = fresh("key");
    let approved = post_with(&auditor, &at(id, "erasure/approve"), &key, &json!({})).await.expect(200);
    assert_eq!(key_state(&world, id).await, Some(("erased".to_owned(), true)));
    let events = world.events().await;

    let again = post_with(&auditor, &at(id, "erasure/approve"), &key, &json!({})).await.expect(200);
    assert_eq!((again.header("idempotency-replayed"), &again.text), (Some("true"), &approved.text));
    auditor.post(&at(id, "erasure/approve"), &json!({})).await.problem(404, "not-found");
    registrar.put(&format!("/v1/patients/{id}"), &patient(&fresh("mrn"))).await.problem(404, "not-found");
    registrar.post(&at(id, "erasure"), &why()).await.problem(404, "not-found");
    for caller in [&nurse, &second] {
        caller.post(&at(id, "observations"), &heart_rate("73")).await.problem(404, "not-found");
        let amend = format!("/v1/observations/{observation}/amend");
        caller.post(&amend, &heart_rate("74")).await.problem(404, "not-found");
    }
    // Who may not is told so, erased or not.
    world.caller(Role::Analyst).post(&at(id, "observations"), &heart_rate("73")).await.problem(403, "forbidden");
    // Nobody can bring the patient back by sending it again.
    let bundled = bundle("transaction", &[create(fhir_patient(id, &fresh("mrn")))]);
    let refused = post_bundle(&world.service(), &bundled).await.problem(409, "rule-violated");
    assert_eq!(refused["rule"], "subject-erased");
    assert_eq!(world.events().await, events, "nothing follows an erasure");
    // The number and the practitioner's time are free again.
    let next = id_of(&registrar.post("/v1/patients", &patient(&mrn)).await.expect(201));
    registrar.post(&at(next, "appointments"), &slot).await.expect(201);
    let left: i64 = world.ask_log("select count(*) from snapshots").await;
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_stay_whole() {
    let world = World::start().await;
    let registrar = world.caller(Role::Registrar);
    let (duplicate, survivor, other) = (world.patient().await, world.patient().await, world.patient().await);
    registrar.post(&at(duplicate, "link"), &json!({"survivor": survivor})).await.expect(200);
    let entries = [
        create(fhir_observation(Uuid::new_v4(), &format!("Patient/{other}"))),
        create(fhir_observation(Uuid::new_v4(), &format!("Patient/{duplicate}"))),
    ];
    erase(&world, duplicate).await;
    registrar.put(&format!("/v1/patients/{survivor}"), &patient(&fresh("mrn"))).await.expect(200);
    let nurse = world.caller(Role::Nurse);
    nurse.post(&at(survivor, "observations"), &heart_rate("70")).await.expect(201);
    let refused = registrar.post(&at(survivor, "link"), &json!({"survivor": duplicate})).await;
    refused.problem(404, "not-found");
    // Of a batch, only what is about the erased patient is refused.
    let answer = post_bundle(&world.service(), &bundle("batch", &entries)).await.expect(200);
    let statuses = crate::world::statuses(&answer);
    assert!(statuses[0].starts_with("201") && statuses[1].starts_with('4'), "{statuses:?}");
    // Nobody refers to what is not there any more.
    let mut of_other = fhir_observation(Uuid::new_v4(), &format!("Patient/{other}"));
    of_other["performer"] = json!([{"reference": format!("Patient/{duplicate}")}]);
    let refused = post_bundle(&world.service(), &bundle("transaction", &[create(of_other)])).await;
    let refused = refused.problem(422, "unresolved-reference");
    assert_eq!(errors(&refused).len(), 1);
    // The survivor may be erased, too; nobody else is.
    erase(&world, survivor).await;
    nurse.post(&at(other, "observations"), &heart_rate("70")).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_undone_is_done_later() {
    let world = World::start().await;
    let id = world.patient().await;
    // As if the process died between event and key.
    on_keys(&world, "alter function destroy_key rename to out_of_reach").await;
    erase(&world, id).await;
    assert_eq!(key_state(&world, id).await, Some(("active".to_owned(), false)));
    world.caller(Role::Nurse).post(&at(id, "observations"), &heart_rate("70")).await.problem(404, "not-found");
    on_keys(&world, "alter function out_of_reach rename to destroy_key").await;
    let is_gone = async || (key_state(&world, id).await == Some(("erased".to_owned(), true))).then_some(());
    eventually("the key is destroyed", PATIENCE, is_gone).await;
    let said = "select requested_by || ' ' || approved_by from erasures";
    let pool = world.keys.pool().await;
    let said: String = sqlx::query_scalar(said).fetch_one(&pool).await.expect("the erasure is recorded");
    pool.close().await;
    assert_eq!(said, "test-registrar test-auditor");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_store_from_an_old_backup_brings_nobody_back() {
    let mut world = World::start().await;
    let known = world.patient().await;
    on_keys(&world, "create table backup as select * from subject_keys").await;
    let unknown = world.patient().await;
    for id in [known, unknown] {
        erase(&world, id).await;
    }
    let restore = "set session_replication_role = replica; delete from erasures; delete from subject_keys;
        insert into subject_keys select * from backup; set session_replication_role = default";
    on_keys(&world, restore).await;
    // A door that starts now has erased them before it answers anybody.
    let url = world.another_door().await;
    for id in [known, unknown] {
        assert_eq!(key_state(&world, id).await, Some(("erased".to_owned(), true)));
        let nurse = Caller::with_token(&url, world.issuer.token(Role::Nurse));
        nurse.post(&at(id, "observations"), &heart_rate("70")).await.problem(404, "not-found");
    }
    // And one that goes on running notices by itself.
    on_keys(&world, restore).await;
    let are_gone = async || {
        let states = [key_state(&world, known).await, key_state(&world, unknown).await];
        states.iter().all(|state| *state == Some(("erased".to_owned(), true))).then_some(())
    };
    eventually("they are erased again", PATIENCE, are_gone).await;
}

#[test]
fn all_crates_call_the_event_by_one_name() {
    assert_eq!(nexus_domain::patient::ERASED, nexus_event_store::ERASED);
}
