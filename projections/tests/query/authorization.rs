//! Every route of the read door, tried by everybody. The list comes from the API description, so that a new route without
//! a row here fails.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use nexus_auth::Role;
use nexus_projections::query_api::openapi;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::access_log::record_access;
use crate::world::{World, patient};

const CLINICIANS: &[Role] = &[Role::Nurse, Role::Physician];

/// A route, who gets an answer, and whether a patient gets one about themselves.
struct Row {
    path: &'static str,
    query: &'static str,
    allowed: &'static [Role],
    own: bool,
}

const fn row(path: &'static str, query: &'static str, allowed: &'static [Role], own: bool) -> Row {
    Row { path, query, allowed, own }
}

const SEARCHERS: &[Role] = &[Role::Registrar, Role::Nurse, Role::Physician, Role::Pharmacist];
const CHART: &[Role] = &[Role::Nurse, Role::Physician, Role::Pharmacist];
const TIMELINE: &[Role] = &[Role::Nurse, Role::Physician, Role::Auditor];
const CALENDAR: &[Role] = &[Role::Registrar, Role::Nurse, Role::Physician];
const FHIR: &[Role] = &[Role::Nurse, Role::Physician, Role::Service];
const AUDITORS: &[Role] = &[Role::Auditor];
const WATCHERS: &[Role] = &[Role::Auditor, Role::Operator];

const ROWS: &[Row] = &[
    row("/v1/patients", "?name=cormier", SEARCHERS, false),
    row("/v1/patients/{id}", "", SEARCHERS, true),
    row("/v1/patients/{id}/chart", "", CHART, true),
    row("/v1/patients/{id}/vital-signs", "", CLINICIANS, true),
    row("/v1/patients/{id}/timeline", "", TIMELINE, true),
    row("/v1/patients/{id}/erasure", "", &[Role::Registrar, Role::Auditor], false),
    row("/v1/census", "", CLINICIANS, false),
    row("/v1/wards/{location}/census", "", CLINICIANS, false),
    row("/v1/practitioners/{id}/appointments", "?date=2026-11-24", CALENDAR, false),
    row("/v1/population/conditions", "", &[Role::Analyst], false),
    row("/v1/population/age-bands", "", &[Role::Analyst], false),
    row("/fhir/{type}/{id}", "", FHIR, true),
    row("/v1/emergency-accesses", "", &[Role::Auditor], false),
    row("/v1/read-models", "", WATCHERS, false),
    row("/v1/accesses", "", AUDITORS, false),
    row("/v1/patients/{id}/accesses", "", AUDITORS, true),
    row("/fhir/AuditEvent", "", AUDITORS, false),
    row("/fhir/AuditEvent/{id}", "", AUDITORS, false),
];

fn path_of(row: &Row, id: Uuid) -> String {
    let id = id.to_string();
    let path = row.path.replace("{id}", &id).replace("{location}", &id).replace("{type}", "Patient");
    format!("{path}{}", row.query)
}

#[test]
fn the_table_is_complete() {
    let description = serde_json::to_value(openapi()).unwrap();
    let mut described = BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        let methods: Vec<&String> = item.as_object().unwrap().keys().collect();
        assert_eq!(methods, ["get"], "{path}: this door only reads");
        described.insert(path.as_str());
    }
    assert_eq!(described, ROWS.iter().map(|row| row.path).collect());
}

#[tokio::test]
async fn everybody_gets_what_the_table_says() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    record_access(&world, id).await;
    let (own, stranger) = (world.issuer.patient_token(id), world.issuer.patient_token(Uuid::new_v4()));
    for row in ROWS {
        let path = path_of(row, id);
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Patient) {
            let expected = if row.allowed.contains(&role) { StatusCode::OK } else { StatusCode::FORBIDDEN };
            assert_eq!(world.get(role, &path).await.status, expected, "{role} {path}");
        }
        // A patient learns of others only that there is nothing.
        let (for_own, for_stranger) = match row.own {
            true => (StatusCode::OK, StatusCode::NOT_FOUND),
            false => (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN),
        };
        assert_eq!(world.get_with(&own, &path, &[]).await.status, for_own, "own {path}");
        assert_eq!(world.get_with(&stranger, &path, &[]).await.status, for_stranger, "stranger {path}");
    }
}

#[tokio::test]
async fn what_is_not_there_looks_like_what_may_not_be_known() {
    let world = World::new().await;
    let (id, nobody) = (Uuid::new_v4(), Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let stranger = world.issuer.patient_token(Uuid::new_v4());
    for row in ROWS.iter().filter(|row| row.own) {
        let mut bodies = Vec::new();
        for id in [id, nobody] {
            let mut body = world.get_with(&stranger, &path_of(row, id), &[]).await.json();
            assert!(body.as_object_mut().unwrap().shift_remove("instance").is_some());
            bodies.push(body);
        }
        assert_eq!(bodies[0], bodies[1], "{}", row.path);
        // Those who may never read this are told so, there or not.
        for id in [id, nobody] {
            assert_eq!(world.get(Role::Analyst, &path_of(row, id)).await.status, StatusCode::FORBIDDEN, "{}", row.path);
        }
    }
}

#[tokio::test]
async fn nobody_gets_anything() {
    let world = World::new().await;
    for row in ROWS {
        let request = Request::get(path_of(row, Uuid::new_v4())).body(Body::empty()).unwrap();
        let answer = world.send(request).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::UNAUTHORIZED, "unauthenticated"),
            "{}",
            row.path
        );
        assert!(answer.headers.contains_key("www-authenticate"));
        let request = Request::post(path_of(row, Uuid::new_v4())).body(Body::empty()).unwrap();
        let status = world.send(request).await.status;
        assert!(
            status == StatusCode::METHOD_NOT_ALLOWED || status == StatusCode::UNAUTHORIZED,
            "{} {status}",
            row.path
        );
    }
}

#[tokio::test]
async fn the_description_and_its_page_are_open() {
    let world = World::new().await;
    let get = |path: &'static str| world.send(Request::get(path).body(Body::empty()).unwrap());
    let description = get("/openapi.json").await;
    assert_eq!(description.status, StatusCode::OK);
    let description: Value = description.json();
    assert_eq!(description["openapi"], "3.1.0");
    assert_eq!(description["security"], json!([{"bearer": []}]));
    assert!(description["components"]["securitySchemes"]["bearer"].is_object());
    for (path, item) in description["paths"].as_object().unwrap() {
        let operation = &item["get"];
        assert!(operation["operationId"].is_string() && operation["summary"].is_string(), "{path}");
        assert!(operation["responses"]["503"].is_object(), "{path}");
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let waits = parameters.iter().any(|it| it["name"] == "Nexus-Position" && it["in"] == "header");
        // Some say themselves how far things are, and positions are the event log's: the access log's have nothing to wait for.
        let tells = ["/v1/read-models", "/v1/patients/{id}/erasure"].contains(&path.as_str());
        let other_log = path.ends_with("/accesses") || path.starts_with("/fhir/AuditEvent");
        assert_eq!(waits, !tells && !other_log, "{path}");
    }
    let page = get("/docs/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(get("/healthz").await.status, StatusCode::OK);
    assert_eq!(
        get("/readyz").await.json()["checks"],
        json!({"read_database": true, "read_model_versions": true, "issuer_keys": true, "not_stopping": true})
    );
    assert_eq!(get("/nothing").await.problem(), "not-found");
}
