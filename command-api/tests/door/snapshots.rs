//! Long streams.

use std::time::Duration;

use nexus_testkit::{Caller, Role, eventually};

use crate::world::{World, fresh, id_of, patient};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_stream_gets_a_sealed_snapshot_that_a_cold_door_goes_on_from() {
    let mut world = World::start().await;
    let registrar = world.caller(Role::Registrar);
    let mrn = fresh("mrn");
    let id = id_of(&registrar.post("/v1/patients", &patient(&mrn)).await.expect(201));
    let path = format!("/v1/patients/{id}");
    let updated = |number: i64| {
        let mut body = patient(&mrn);
        body["names"][0]["family"] = serde_json::json!(format!("Zebrafink {number}"));
        body
    };
    for number in 2..=200 {
        registrar.put(&path, &updated(number)).await.expect(200);
    }
    eventually("there is a snapshot", Duration::from_secs(20), async || {
        let found: Option<i64> = world.ask_log("select max(sequence) from snapshots").await;
        (found == Some(200)).then_some(())
    })
    .await;
    let sealed: Vec<u8> = world.ask_log("select sealed from snapshots").await;
    assert!(!sealed.windows(9).any(|window| window == b"Zebrafink"));

    let token = world.issuer.token(Role::Registrar);
    let cold = Caller::with_token(world.another_door().await, token);
    let same = cold.put(&path, &updated(200)).await.expect(200);
    assert_eq!((same.header("etag"), same.header("nexus-position")), (Some("\"200\""), None), "it knows the state");
    assert_eq!(cold.put(&path, &updated(201)).await.expect(200).header("etag"), Some("\"201\""));
    assert_eq!(world.events().await, 201);
}
