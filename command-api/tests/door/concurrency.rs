//! Many at once.

use futures::future::join_all;
use nexus_testkit::{Answer, Role};
use serde_json::json;

use crate::world::{World, appointment, fresh, heart_rate, patient, penicillin, penicillin_allergy, post_plain};

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_registrations_of_one_record_number_one_wins() {
    let mut world = World::start().await;
    let second = world.another_door().await;
    let token = world.issuer.token(Role::Registrar);
    let doors = [world.url.clone(), second].map(|url| nexus_testkit::Caller::with_token(url, &token));
    let body = patient(&fresh("mrn"));
    let answers = join_all((0..64).map(|at| doors[at % 2].post("/v1/patients", &body))).await;
    assert_eq!((count(&answers, 201), count(&answers, 409)), (1, 63));
    for refused in answers.iter().filter(|answer| answer.status == 409) {
        assert_eq!(refused.problem(409, "claim-taken")["rule"], "medical-record-number");
    }
    assert_eq!(world.events().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_on_one_patient_all_get_through() {
    let world = World::start().await;
    let (nurse, registrar) = (world.caller(Role::Nurse), world.caller(Role::Registrar));
    let id = world.patient().await;
    let path = format!("/v1/patients/{id}/observations");
    let body = heart_rate("72");
    let observations = join_all((0..100).map(|_| post_plain(&nurse, &path, &body)));
    let updates = async {
        for _ in 0..5 {
            registrar.put(&format!("/v1/patients/{id}"), &patient(&fresh("mrn"))).await.expect(200);
        }
    };
    let (answers, ()) = tokio::join!(observations, updates);
    assert_eq!(count(&answers, 201), 100, "{:?}", answers.iter().find(|answer| answer.status != 201));
    assert_eq!(world.events().await, 106);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_bookings_of_one_time_one_wins() {
    let world = World::start().await;
    let registrar = world.caller(Role::Registrar);
    let doctor = world.practitioner("9").await;
    let patients = join_all((0..8).map(|_| world.patient())).await;
    let body = appointment(doctor, "2027-02-01T08:00:00Z", "2027-02-01T08:30:00Z");
    let book = |id| {
        let (registrar, body) = (registrar.clone(), body.clone());
        async move { registrar.post(&format!("/v1/patients/{id}/appointments"), &body).await }
    };
    let answers = join_all(patients.into_iter().map(book)).await;
    assert_eq!((count(&answers, 201), count(&answers, 409)), (1, 7));
}

/// Whatever the order, an order that stands next to an active allergy was prescribed before the allergy was recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allergy_recorded_meanwhile_is_not_overlooked() {
    let world = World::start().await;
    let physician = world.caller(Role::Physician);
    let mut refused = 0;
    for _ in 0..12 {
        let id = world.patient().await;
        let orders = format!("/v1/patients/{id}/medication-orders");
        let (order, allergies) = (penicillin(), format!("/v1/patients/{id}/allergies"));
        let allergy = penicillin_allergy();
        let (prescriptions, recorded) = tokio::join!(
            join_all((0..6).map(|_| physician.post(&orders, &order))),
            physician.post(&allergies, &allergy)
        );
        let recorded_at = place(recorded.expect(201).position());
        for answer in prescriptions {
            match answer.status.as_u16() {
                201 => assert!(place(answer.position()) < recorded_at, "prescribed after the allergy was known"),
                _ => {
                    assert_eq!(answer.problem(409, "rule-violated")["rule"], "active-allergy");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 0, "no prescription met an allergy");
}

/// The position of an event of one partition.
fn place(token: &str) -> i64 {
    token.split_once('-').and_then(|(_, position)| position.parse().ok()).expect("a token of one partition")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_match_decides_on_one_version_only() {
    let world = World::start().await;
    let registrar = world.caller(Role::Registrar);
    let id = world.patient().await;
    let put = |tag: &'static str| {
        let request = registrar.request(reqwest::Method::PUT, &format!("/v1/patients/{id}")).header("if-match", tag);
        let body = patient(&fresh("mrn"));
        async move { request.json(&body).answer().await }
    };
    let mismatch = put("\"7\"").await;
    assert_eq!(mismatch.problem(412, "version-mismatch")["current_version"], json!(1));
    let answers = join_all((0..8).map(|_| put("\"1\""))).await;
    assert_eq!((count(&answers, 200), count(&answers, 412)), (1, 7));
    put("*").await.expect(200);
    put("7").await.problem(400, "invalid-parameter");
}

/// Two records must not replace each other: nobody would find a way out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_records_that_would_replace_each_other_one_stays() {
    let world = World::start().await;
    let registrar = world.caller(Role::Registrar);
    for _ in 0..20 {
        let (one, two) = (world.patient().await, world.patient().await);
        let link = |from: uuid::Uuid, to: uuid::Uuid| {
            let registrar = registrar.clone();
            async move { registrar.post(&format!("/v1/patients/{from}/link"), &json!({"survivor": to})).await }
        };
        let (there, back) = tokio::join!(link(one, two), link(two, one));
        let mut statuses = [there.status.as_u16(), back.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 404]);
    }
}
