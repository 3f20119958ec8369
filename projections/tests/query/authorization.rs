//! What the door says to those who may know nothing, to nobody, and of itself.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use nexus_auth::Role;
use nexus_auth::policy::Decision;
use nexus_auth::testing::{About, Standing};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::access::{path_of, routes};
use crate::world::{World, patient};

#[tokio::test]
async fn what_is_not_there_looks_like_what_may_not_be_known() {
    let world = World::new().await;
    let (id, nobody) = (Uuid::new_v4(), Uuid::new_v4());
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let stranger = world.issuer.patient_token(Uuid::new_v4());
    for route in routes().filter(|route| {
        route.about == About::Patient && route.expected(Role::Patient, Standing::Own) == Decision::Allow
    }) {
        let mut bodies = Vec::new();
        for id in [id, nobody] {
            let mut body = world.get_with(&stranger, &path_of(route, id), &[]).await.json();
            assert!(body.as_object_mut().unwrap().shift_remove("instance").is_some());
            bodies.push(body);
        }
        assert_eq!(bodies[0], bodies[1], "{}", route.name);
        // Those who may never read this are told so, there or not.
        for id in [id, nobody] {
            assert_eq!(
                world.get(Role::Analyst, &path_of(route, id)).await.status,
                StatusCode::FORBIDDEN,
                "{}",
                route.name
            );
        }
    }
}

#[tokio::test]
async fn nobody_gets_anything() {
    let world = World::new().await;
    for route in routes() {
        let request = Request::get(path_of(route, Uuid::new_v4())).body(Body::empty()).unwrap();
        let answer = world.send(request).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::UNAUTHORIZED, "unauthenticated"),
            "{}",
            route.name
        );
        assert!(answer.headers.contains_key("www-authenticate"));
        let request = Request::post(path_of(route, Uuid::new_v4())).body(Body::empty()).unwrap();
        let status = world.send(request).await.status;
        assert!(
            status == StatusCode::METHOD_NOT_ALLOWED || status == StatusCode::UNAUTHORIZED,
            "{} {status}",
            route.name
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
        let tells = ["/v1/read-models", "/v1/read-models/feed", "/v1/parked", "/v1/patients/{id}/erasure"]
            .contains(&path.as_str());
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
