//! The document of this door against what it does, as schemathesis sees it.

use nexus_testkit::{Role, schemathesis};
use nexus_web::server::{GRACE_DEFAULT, bind, serve};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{World, patient};

/// The door on a socket, with somebody in it.
async fn listening(world: &World) -> String {
    world.record([patient(Uuid::new_v4(), "Cormier", "Chi", "1959-07-30")]).await;
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, world.door.clone(), CancellationToken::new(), GRACE_DEFAULT));
    url
}

/// A token that may do everything gets furthest into the handlers.
#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_with_a_token() {
    let world = World::new().await;
    let token = world.issuer.mint(&world.issuer.claims("test-everybody", &Role::ALL, None));
    schemathesis(&listening(&world).await, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_with_an_invalid_token() {
    let world = World::new().await;
    schemathesis(&listening(&world).await, "no.such.token").await;
}

/// "Anything may happen" documents nothing: each status stands by itself.
#[test]
fn every_status_is_named() {
    let description = serde_json::to_value(nexus_projections::query_api::openapi()).unwrap();
    for (path, item) in description["paths"].as_object().unwrap() {
        let statuses: Vec<&String> = item["get"]["responses"].as_object().unwrap().keys().collect();
        let are_named = statuses.iter().all(|status| status.parse::<u16>().is_ok());
        assert!(are_named && statuses.len() > 1, "{path}: {statuses:?}");
        assert_eq!(item["get"]["responses"]["default"], Value::Null, "{path}");
    }
}
