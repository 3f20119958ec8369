//! The OpenAPI document describes the routes that there are, and only those.

use std::collections::BTreeSet;

use nexus_testkit::{Caller, Role};
use reqwest::Method;
use serde_json::Value;

use crate::world::World;

/// Every route as the contract lists it.
const ROUTES: &[&str] = &[
    "POST /v1/patients",
    "PUT /v1/patients/{id}",
    "POST /v1/patients/{id}/death",
    "POST /v1/patients/{id}/link",
    "POST /v1/patients/{id}/legal-hold",
    "POST /v1/patients/{id}/legal-hold/release",
    "POST /v1/patients/{id}/erasure",
    "POST /v1/patients/{id}/erasure/withdraw",
    "POST /v1/patients/{id}/erasure/approve",
    "POST /v1/patients/{id}/encounters",
    "POST /v1/patients/{id}/observations",
    "POST /v1/patients/{id}/conditions",
    "POST /v1/patients/{id}/alerts",
    "POST /v1/patients/{id}/allergies",
    "POST /v1/patients/{id}/medication-orders",
    "POST /v1/patients/{id}/appointments",
    "POST /v1/patients/{id}/consents",
    "POST /v1/patients/{id}/records",
    "POST /v1/encounters/{id}/transfer",
    "POST /v1/encounters/{id}/finish",
    "POST /v1/encounters/{id}/cancel",
    "POST /v1/encounters/{id}/entered-in-error",
    "POST /v1/observations/{id}/amend",
    "POST /v1/observations/{id}/entered-in-error",
    "POST /v1/conditions/{id}/resolve",
    "POST /v1/conditions/{id}/refute",
    "POST /v1/conditions/{id}/entered-in-error",
    "POST /v1/allergies/{id}/refute",
    "POST /v1/allergies/{id}/entered-in-error",
    "POST /v1/medication-orders/{id}/hold",
    "POST /v1/medication-orders/{id}/resume",
    "POST /v1/medication-orders/{id}/discontinue",
    "POST /v1/medication-orders/{id}/complete",
    "POST /v1/medication-orders/{id}/entered-in-error",
    "POST /v1/appointments/{id}/confirm",
    "POST /v1/appointments/{id}/check-in",
    "POST /v1/appointments/{id}/cancel",
    "POST /v1/appointments/{id}/no-show",
    "POST /v1/appointments/{id}/reminder-due",
    "POST /v1/appointments/{id}/entered-in-error",
    "POST /v1/consents/{id}/withdraw",
    "POST /v1/patients/{id}/break-glass",
    "POST /v1/emergency-accesses/{id}/review",
    "PUT /v1/records/{type}/{id}",
    "POST /v1/records/{type}/{id}/retract",
    "POST /v1/directory",
    "PUT /v1/directory/{type}/{id}",
    "POST /v1/directory/{type}/{id}/retire",
    "POST /fhir",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_and_the_router_have_the_same_routes() {
    let world = World::start().await;
    let nobody = Caller::anonymous(&world.url);
    let document = nobody.get("/openapi.json").await.expect(200).json();
    assert_eq!(document["openapi"], "3.1.0");
    let described: BTreeSet<String> =
        operations(&document).map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(described, ROUTES.iter().map(|route| (*route).to_owned()).collect());

    // The router has each of them: with a token, none is answered as a path or method that does not exist.
    let operator = world.caller(Role::Operator);
    for (method, path, operation) in operations(&document) {
        let id = uuid::Uuid::new_v4().to_string();
        let body = example(&document, operation);
        let resource_type = body["resourceType"].as_str().unwrap_or("Procedure");
        let path = path.replace("{id}", &id).replace("{type}", resource_type);
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let answer = operator.request(method, &path).json(&body).answer().await;
        assert_eq!(
            answer.status.as_u16(),
            403,
            "{path}: the example is a good body, refused only to this caller: {}",
            answer.text
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_says_what_it_takes_and_answers() {
    let world = World::start().await;
    let nobody = Caller::anonymous(&world.url);
    let document = nobody.get("/openapi.json").await.expect(200).json();
    let mut names = BTreeSet::new();
    for (_, path, operation) in operations(&document) {
        let name = operation["operationId"].as_str().expect("an operation id");
        assert!(names.insert(name.to_owned()), "{name} is there twice");
        assert!(operation["summary"].is_string(), "{path} has no summary");
        for status in ["400", "401", "403", "404", "409", "412", "413", "415", "422", "500", "503", "504"] {
            let content = &operation["responses"][status]["content"]["application/problem+json"];
            assert!(content.is_object(), "{path} says nothing of {status}");
        }
        let headers: Vec<&str> =
            operation["parameters"].as_array().into_iter().flatten().filter_map(|it| it["name"].as_str()).collect();
        assert!(
            ["Idempotency-Key", "If-Match", "Prefer"].iter().all(|name| headers.contains(name)),
            "{path}: {headers:?}"
        );
    }
    assert!(document["components"]["securitySchemes"]["bearer"].is_object());
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    assert!(schemas.contains_key("Problem") && schemas.contains_key("AcceptedBody"));
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documentation_and_health_need_no_token() {
    let world = World::start().await;
    let nobody = Caller::anonymous(&world.url);
    assert_eq!(nobody.get("/readyz").await.expect(200).json()["ready"], true);
    nobody.get("/healthz").await.expect(200);
    let page = nobody.get("/docs/").await.expect(200);
    assert!(page.text.contains("swagger-ui"));
    world.patient().await;
    let metrics = nobody.get("/metrics").await.expect(200);
    assert!(
        metrics.text.contains("commands_total{command=\"register_patient\",outcome=\"accepted\"}"),
        "{}",
        metrics.text
    );
}

fn operations(document: &Value) -> impl Iterator<Item = (String, String, &Value)> {
    let paths = document["paths"].as_object().expect("the document has paths");
    paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("a path has methods");
        methods.iter().map(|(method, operation)| (method.to_uppercase(), path.clone(), operation))
    })
}

/// The example of a route's body.
pub fn example_of(document: &Value, route: &str) -> Value {
    let named = |(method, path, _): &(String, String, &Value)| format!("{method} {path}") == route;
    operations(document).find(named).map(|(_, _, operation)| example(document, operation)).expect("a route")
}

/// The example of an operation's body.
fn example(document: &Value, operation: &Value) -> Value {
    let content = operation["requestBody"]["content"].as_object().expect("a body");
    let media = content.values().next().expect("a media type");
    if !media["example"].is_null() {
        return media["example"].clone();
    }
    let reference = media["schema"]["$ref"].as_str().expect("a schema").trim_start_matches('#');
    let schema = document.pointer(reference).expect("the schema is there");
    if schema["example"].is_null() { serde_json::json!({}) } else { schema["example"].clone() }
}
