//! Reading resources back.

use axum::http::StatusCode;
use nexus_auth::Role;
use nexus_domain::fhir::id_of;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, patient, reference};

const FHIR_JSON: &str = "application/fhir+json";

#[tokio::test]
async fn parameters_of_every_interaction_are_taken() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let path = format!("/fhir/Patient/{id}");
    let plain = world.get(Role::Nurse, &path).await;
    for query in ["_format=json", "_format=application/fhir%2Bjson", "_format=application/fhir+json", "_pretty=false"] {
        assert_eq!(world.get(Role::Nurse, &format!("{path}?{query}")).await.bytes, plain.bytes, "{query}");
    }
    let pretty = world.get(Role::Nurse, &format!("{path}?_pretty=true&_format=json")).await;
    let text = String::from_utf8(pretty.bytes.clone()).unwrap();
    assert!(text.starts_with("{\n  \"resourceType\": \"Patient\",\n"), "{text}");
    assert_eq!(pretty.json(), plain.json());
    for (query, slug) in
        [("_format=xml", "not-acceptable"), ("_pretty=2", "invalid-parameter"), ("_since=1", "invalid-parameter")]
    {
        assert_eq!(world.get(Role::Nurse, &format!("{path}?{query}")).await.problem(), slug, "{query}");
    }
    let audit = format!("/fhir/AuditEvent/{id}?_format=json&_pretty=true");
    let outcome = world.get(Role::Auditor, &audit).await;
    assert_eq!(
        (outcome.status, outcome.json()["resourceType"].as_str()),
        (StatusCode::NOT_FOUND, Some("OperationOutcome"))
    );
    let search = world.get(Role::Auditor, "/fhir/AuditEvent?_format=application/json&_count=5").await;
    assert_eq!((search.status, search.json()["type"].as_str()), (StatusCode::OK, Some("searchset")));
}

#[tokio::test]
async fn who_has_a_version_is_not_sent_it_again() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let ask = |token: String, tags: &'static str| {
        let (world, path) = (&world, format!("/fhir/Patient/{id}"));
        async move { world.get_with(&token, &path, &[("if-none-match", tags)]).await }
    };
    let nurse = || world.issuer.token(Role::Nurse);
    for tags in ["W/\"1\"", "\"1\"", "W/\"7\", W/\"1\"", "*"] {
        let answer = ask(nurse(), tags).await;
        assert_eq!((answer.status, answer.bytes.len()), (StatusCode::NOT_MODIFIED, 0), "{tags}");
        assert_eq!(answer.headers["etag"], "W/\"1\"");
    }
    for tags in ["W/\"2\"", "1", "\"11\""] {
        assert_eq!(ask(nurse(), tags).await.status, StatusCode::OK, "{tags}");
    }
    let stranger = world.issuer.patient_token(Uuid::new_v4());
    assert_eq!(ask(stranger, "*").await.status, StatusCode::NOT_FOUND, "who may not read learns nothing");
}

#[tokio::test]
async fn refusals_are_outcomes_for_who_speaks_fhir() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let ask = |role: Role, path: String| {
        let world = &world;
        async move { world.get_with(&world.issuer.token(role), &path, &[("accept", FHIR_JSON)]).await }
    };
    for (role, path, status, code) in [
        (Role::Nurse, format!("/fhir/Patient/{}", Uuid::new_v4()), StatusCode::NOT_FOUND, "not-found"),
        (Role::Nurse, "/fhir/Patient/someone".to_owned(), StatusCode::NOT_FOUND, "not-found"),
        (Role::Analyst, format!("/fhir/Patient/{id}"), StatusCode::FORBIDDEN, "forbidden"),
        (Role::Nurse, format!("/fhir/Patient/{id}?_pretty=yes"), StatusCode::BAD_REQUEST, "invalid"),
        (Role::Nurse, format!("/fhir/Patient/{id}?_format=xml"), StatusCode::NOT_ACCEPTABLE, "not-supported"),
    ] {
        let answer = ask(role, path.clone()).await;
        assert_eq!((answer.status, answer.headers["content-type"].to_str().unwrap()), (status, FHIR_JSON), "{path}");
        assert_eq!(
            (&answer.json()["resourceType"], &answer.json()["issue"][0]["code"]),
            (&json!("OperationOutcome"), &json!(code))
        );
    }
    let parameter = ask(Role::Nurse, format!("/fhir/Patient/{id}?position=x")).await.json();
    assert_eq!(parameter["issue"][0]["location"][0], "http.position");
    let other = ask(Role::Nurse, format!("/v1/patients/{}/chart", Uuid::new_v4())).await;
    assert_eq!(other.headers["content-type"], "application/problem+json");
}

#[tokio::test]
async fn a_resource_comes_back_as_it_was_sent() {
    let world = World::new().await;
    let (id, one) = (Uuid::new_v4(), Uuid::new_v4());
    let text = format!(
        r#"{{"resourceType":"Observation","id":"{one}","zeta":1.10,"status":"final","alpha":{{"b":120.000,"a":1.50e-7}},"subject":{{"reference":"Patient/{id}"}},"meta":{{"profile":["x"]}}}}"#
    );
    world.record([patient(id, "Cormier", "Chi", "1959-07-30"), serde_json::from_str(&text).unwrap()]).await;
    let answer = world.get(Role::Service, &format!("/fhir/Observation/{one}")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "application/fhir+json");
    assert_eq!(answer.headers["etag"], "W/\"1\"");
    assert_eq!(answer.headers["last-modified"], "Tue, 24 Nov 2026 10:00:01 GMT");
    let with_ours = r#"["x"],"versionId":"1","lastUpdated":"2026-11-24T10:00:01.000000Z"}"#;
    assert_eq!(String::from_utf8(answer.bytes).unwrap(), text.replace(r#"["x"]}"#, with_ours));
}

#[tokio::test]
async fn meta_goes_behind_the_id_where_there_is_none() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let body = world.get(Role::Nurse, &format!("/fhir/Patient/{id}")).await.json();
    let names: Vec<&String> = body.as_object().unwrap().keys().take(4).collect();
    assert_eq!(names, ["resourceType", "id", "meta", "identifier"]);
}

#[tokio::test]
async fn errors_stay_readable_and_what_was_taken_back_is_gone() {
    let world = World::new().await;
    let (id, problem, device, basic) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let condition = |verification: &str| {
        json!({"resourceType": "Condition", "id": problem, "subject": reference("Patient", id),
            "verificationStatus": {"coding": [{"code": verification}]}})
    };
    let filed = |status: &str| json!({"resourceType": "Device", "id": device, "status": status, "patient": reference("Patient", id)});
    let bare = || json!({"resourceType": "Basic", "id": basic, "subject": reference("Patient", id)});
    world.record([condition("confirmed"), filed("active"), bare()]).await;
    world
        .apply(&[
            world.event("EnteredInError", condition("entered-in-error"), json!({})).await,
            world.event("Retracted", filed("entered-in-error"), json!({})).await,
            world.event("Retracted", bare(), json!({})).await,
        ])
        .await;
    let answer = world.get(Role::Nurse, &format!("/fhir/Condition/{problem}")).await;
    assert_eq!(answer.headers["etag"], "W/\"2\"");
    assert_eq!(answer.json()["verificationStatus"]["coding"][0]["code"], "entered-in-error");
    assert_eq!(world.get(Role::Nurse, &format!("/fhir/Device/{device}")).await.status, StatusCode::OK);
    assert_eq!(world.get(Role::Nurse, &format!("/fhir/Basic/{basic}")).await.problem(), "not-found");
}

#[tokio::test]
async fn only_what_exists_is_found_under_its_own_type() {
    let world = World::new().await;
    let (id, place) = (Uuid::new_v4(), Uuid::new_v4());
    world
        .record([
            patient(id, "Cormier", "Chi", "1959-07-30"),
            json!({"resourceType": "Location", "id": place, "name": "Ward East"}),
        ])
        .await;
    let status = |role: Role, path: String| {
        let world = &world;
        async move { world.get(role, &path).await.status }
    };
    assert_eq!(status(Role::Registrar, format!("/fhir/Location/{place}")).await, StatusCode::OK);
    for path in [
        format!("/fhir/Location/{id}"),
        format!("/fhir/Observation/{id}"),
        format!("/fhir/Nonsense/{id}"),
        "/fhir/Patient/someone".to_owned(),
        format!("/fhir/Patient/{}", Uuid::new_v4()),
    ] {
        assert_eq!(status(Role::Nurse, path.clone()).await, StatusCode::NOT_FOUND, "{path}");
    }
    let answer = world
        .get_with(&world.issuer.token(Role::Nurse), &format!("/fhir/Patient/{id}"), &[("accept", "text/html")])
        .await;
    assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::NOT_ACCEPTABLE, "not-acceptable"));
    let own = world.issuer.patient_token(id);
    let answer: Value = world.get_with(&own, &format!("/fhir/Patient/{id}"), &[]).await.json();
    assert_eq!(answer["id"], id.to_string());
    let stranger = world.issuer.patient_token(Uuid::new_v4());
    assert_eq!(world.get_with(&stranger, &format!("/fhir/Patient/{id}"), &[]).await.status, StatusCode::NOT_FOUND);
}

/// Whoever put it under an id of their own knows it by no other.
#[tokio::test]
async fn what_was_put_under_another_id_is_read_under_it() {
    let world = World::new().await;
    let id = id_of("Patient", "ward.7-bed.2").unwrap();
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let read = |path: String| {
        let world = &world;
        async move { world.get(Role::Nurse, &path).await }
    };
    let answer = read("/fhir/Patient/ward.7-bed.2".to_owned()).await;
    assert_eq!((answer.status, answer.json()["id"].clone()), (StatusCode::OK, json!(id)));
    assert_eq!(read(format!("/fhir/Patient/{}", id.to_string().to_uppercase())).await.status, StatusCode::OK);
    for other in ["Patient/ward.7-bed.3", "Patient/ward_7", "Basic/ward.7-bed.2", "Patient/WARD.7-bed.2"] {
        assert_eq!(read(format!("/fhir/{other}")).await.problem(), "not-found", "{other}");
    }
}

/// An observation about a place is in no patient's views; it is read like the directory, unless it mentions a patient.
#[tokio::test]
async fn what_is_about_no_patient_is_read_by_whom_it_tells_nothing() {
    let world = World::new().await;
    let [id, place, cold, read, crowd] = [(); 5].map(|()| Uuid::new_v4());
    let about = |one: Uuid| {
        json!({"resourceType": "Observation", "id": one, "status": "final", "subject": reference("Location", place),
            "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5"}]}, "effectiveDateTime": "2026-11-24",
            "valueQuantity": {"value": 4, "unit": "Cel", "system": "http://unitsofmeasure.org", "code": "Cel"}})
    };
    let mut by_a_patient = about(read);
    by_a_patient["performer"] = json!([reference("Patient", id)]);
    let group = json!({"resourceType": "Group", "id": crowd, "type": "person", "actual": true,
        "member": [{"entity": reference("Patient", id)}]});
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let mut events = Vec::new();
    for resource in [about(cold), by_a_patient, group] {
        events.push(world.event_of("DirectoryEntry", "Registered", resource, json!({"notes": []})).await);
    }
    world.apply(&events).await;
    let status = async |role: Role, path: String| world.get(role, &path).await.status;
    for role in [Role::Nurse, Role::Patient, Role::Service] {
        assert_eq!(status(role, format!("/fhir/Observation/{cold}")).await, StatusCode::OK, "{role:?}");
    }
    for path in [format!("/fhir/Observation/{read}"), format!("/fhir/Group/{crowd}")] {
        assert_eq!(status(Role::Service, path.clone()).await, StatusCode::OK);
        assert_eq!(status(Role::Nurse, path.clone()).await, StatusCode::FORBIDDEN);
        assert_eq!(status(Role::Patient, path.clone()).await, StatusCode::NOT_FOUND);
    }
    for view in ["vital-signs", "timeline"] {
        let items = world.get(Role::Nurse, &format!("/v1/patients/{id}/{view}")).await.items();
        assert!(items.iter().all(|item| item["id"] != json!(cold) && item["id"] != json!(read)), "{view}: {items:?}");
    }
}
