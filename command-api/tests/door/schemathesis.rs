//! The document of this door against what it does, as schemathesis sees it.

use nexus_testkit::{Role, schemathesis};

use crate::world::World;

/// A token that may do everything gets furthest into the handlers.
#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_with_a_token() {
    let world = World::start().await;
    let token = world.issuer.mint(&world.issuer.claims("test-everybody", &Role::ALL, None));
    schemathesis(&world.url, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_with_an_invalid_token() {
    let world = World::start().await;
    schemathesis(&world.url, "no.such.token").await;
    assert_eq!(world.events().await, 0);
}
