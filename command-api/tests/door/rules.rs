//! Rules that lean on more than one stream.

use nexus_testkit::Role;
use serde_json::json;
use uuid::Uuid;

use crate::world::{World, appointment, errors, heart_rate, id_of, penicillin, penicillin_allergy};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_active_allergy_forbids_a_prescription_unless_overridden() {
    let world = World::start().await;
    let physician = world.caller(Role::Physician);
    let patient = world.patient().await;
    let orders = format!("/v1/patients/{patient}/medication-orders");
    let allergy =
        id_of(&physician.post(&format!("/v1/patients/{patient}/allergies"), &penicillin_allergy()).await.expect(201));

    let refused = physician.post(&orders, &penicillin()).await;
    assert_eq!(refused.problem(409, "rule-violated")["rule"], "active-allergy");
    let mut overridden = penicillin();
    overridden["overrideReason"] = json!("Desensitised, no alternative.");
    physician.post(&orders, &overridden).await.expect(201);

    physician.post(&format!("/v1/allergies/{allergy}/refute"), &json!({})).await.expect(200);
    physician.post(&orders, &penicillin()).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_practitioners_time_is_booked_once_and_free_after_a_cancellation() {
    let world = World::start().await;
    let registrar = world.caller(Role::Registrar);
    let (doctor, patient, other) = (world.practitioner("7").await, world.patient().await, world.patient().await);
    let book = |patient: Uuid, start: &str, end: &str| {
        let (path, body) = (format!("/v1/patients/{patient}/appointments"), appointment(doctor, start, end));
        let registrar = registrar.clone();
        async move { registrar.post(&path, &body).await }
    };

    let first = book(patient, "2027-01-04T09:00:00Z", "2027-01-04T09:30:00Z").await.expect(201);
    let overlap = book(other, "2027-01-04T09:25:00Z", "2027-01-04T09:45:00Z").await;
    assert_eq!(overlap.problem(409, "claim-taken")["rule"], "practitioner-slot");
    book(other, "2027-01-04T09:30:00Z", "2027-01-04T10:00:00Z").await.expect(201);
    let path = format!("/v1/appointments/{}/cancel", id_of(&first));
    registrar.post(&path, &json!({"reason": "ill"})).await.expect(200);
    book(other, "2027-01-04T09:00:00Z", "2027-01-04T09:30:00Z").await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_command_is_about_has_to_exist() {
    let world = World::start().await;
    let physician = world.caller(Role::Physician);
    let nobody = Uuid::new_v4();
    physician.post(&format!("/v1/patients/{nobody}/observations"), &heart_rate("70")).await.problem(404, "not-found");
    physician.post(&format!("/v1/conditions/{nobody}/resolve"), &json!({})).await.problem(404, "not-found");
    let patient = world.patient().await;
    let mut body = heart_rate("70");
    body["encounter"] = json!(nobody);
    let answer = physician.post(&format!("/v1/patients/{patient}/observations"), &body).await;
    let problem = answer.problem(422, "unresolved-reference");
    assert_eq!(problem["errors"][0]["pointer"], "/encounter/reference");
}

/// A reference names a type, and what is a patient's is only named by what is the same patient's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_refers_to_the_right_type_and_the_right_patient() {
    let world = World::start().await;
    let physician = world.caller(Role::Physician);
    let (patient, other) = (world.patient().await, world.patient().await);
    let ward = json!({"resourceType": "Location", "status": "active", "name": "Ward"});
    let ward = id_of(&world.service().post("/v1/directory", &ward).await.expect(201));
    let booking = appointment(ward, "2027-01-04T09:00:00Z", "2027-01-04T09:30:00Z");
    let refused = physician.post(&format!("/v1/patients/{patient}/appointments"), &booking).await;
    let problem = refused.problem(422, "unresolved-reference");
    assert_eq!(problem["errors"][0]["pointer"], "/participant/1/actor/reference");

    let started = json!({"class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}});
    let encounter = id_of(&physician.post(&format!("/v1/patients/{other}/encounters"), &started).await.expect(201));
    let mut body = heart_rate("70");
    body["encounter"] = json!(encounter);
    let refused = physician.post(&format!("/v1/patients/{patient}/observations"), &body).await;
    let problem = refused.problem(422, "invalid-value");
    assert_eq!(errors(&problem), [("/encounter/reference".to_owned(), "foreign-reference".to_owned())]);
    physician.post(&format!("/v1/patients/{other}/observations"), &body).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allergy_that_can_not_be_compared_needs_a_reason() {
    let world = World::start().await;
    let physician = world.caller(Role::Physician);
    let at = |patient: Uuid, rest: &str| format!("/v1/patients/{patient}/{rest}");
    let patient = world.patient().await;
    let allergy = json!({"code": {"system": "http://snomed.info/sct", "code": "91936005"}});
    physician.post(&at(patient, "allergies"), &allergy).await.expect(201);
    let refused = physician.post(&at(patient, "medication-orders"), &penicillin()).await;
    assert_eq!(refused.problem(409, "rule-violated")["rule"], "medication-not-checkable");
    let mut overridden = penicillin();
    overridden["overrideReason"] = json!("Checked by hand.");
    physician.post(&at(patient, "medication-orders"), &overridden).await.expect(201);

    let patient = world.patient().await;
    physician.post(&at(patient, "allergies"), &json!({"code": {"text": "ASA"}})).await.expect(201);
    let order = json!({"medication": {"text": "ASA 81 MG Oral Tablet"}});
    let refused = physician.post(&at(patient, "medication-orders"), &order).await;
    assert_eq!(refused.problem(409, "rule-violated")["rule"], "active-allergy");
}

/// Another instance decides on what this one wrote, though it had the old state in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_in_memory_is_never_the_last_word() {
    let mut world = World::start().await;
    let second = world.another_door().await;
    let token = world.issuer.token(Role::Physician);
    let (here, there) = (world.caller(Role::Physician), nexus_testkit::Caller::with_token(second, token));
    let patient = world.patient().await;
    let body = json!({"code": {"system": "http://snomed.info/sct", "code": "44054006"}, "onset": "2019"});
    let id = id_of(&here.post(&format!("/v1/patients/{patient}/conditions"), &body).await.expect(201));
    let (resolve, wrong) = (format!("/v1/conditions/{id}/resolve"), format!("/v1/conditions/{id}/entered-in-error"));

    there.post(&resolve, &json!({})).await.expect(200);
    // Here the condition is still open in memory: a second resolution has nothing to do.
    let again = here.post(&resolve, &json!({})).await.expect(200);
    assert_eq!((again.json()["sequence"].as_i64(), again.header("nexus-position")), (Some(2), None));
    here.post(&wrong, &json!({})).await.expect(200);
    let refused = there.post(&resolve, &json!({})).await;
    assert_eq!(refused.problem(409, "rule-violated")["rule"], "entered-in-error");
}
