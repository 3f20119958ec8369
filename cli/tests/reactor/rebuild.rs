//! What a version orders that is not the one that is served is not carried out, and what was ordered once is not ordered again
//! by the version after it.

use nexus_testkit::{DEADLINE, eventually};
use tokio_util::sync::CancellationToken;

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_fires_nothing_again() {
    let world = World::start().await;
    let (_projector, _reactor) = (world.projector().await, world.reactor());
    let (patient, _) = world.inpatient().await;
    world.is_well(patient).await;
    world.measure(patient, "8867-4", 140.0, "/min").await;
    world.wait_for_events("Alert", patient, &["Alert.Raised"]).await;
    world.measure(patient, "8867-4", 70.0, "/min").await;
    world.wait_for_events("Alert", patient, &["Alert.Raised", "Alert.Cleared"]).await;
    eventually("both are noted", DEADLINE, || async {
        (world.orders("early_warning_v2", "done").await == 2).then_some(())
    })
    .await;

    let (rebuild, stop) = (world.rebuild("early_warning").await, CancellationToken::new());
    let running = rebuild.begin().await.unwrap();
    running.fill(&stop, |_| {}).await.unwrap();
    assert!(running.compare(&stop).await.unwrap().is_equal());
    assert_eq!(world.orders("early_warning_v3", "due").await, 2, "the new version orders the same");
    // Under other keys, so that it is not the write door that keeps them from being carried out twice.
    sqlx::query("update early_warning_v3.orders set key = key || '/otherwise'").execute(&world.read).await.unwrap();
    world.measure(patient, "8867-4", 71.0, "/min").await;
    running.switch(&stop).await.unwrap();
    eventually("what was ordered before is superseded", DEADLINE, || async {
        (world.orders("early_warning_v3", "superseded").await == 2).then_some(())
    })
    .await;

    // What it orders from then on is carried out.
    world.measure(patient, "8867-4", 140.0, "/min").await;
    world.wait_for_events("Alert", patient, &["Alert.Raised", "Alert.Cleared", "Alert.Raised"]).await;
    assert_eq!(world.orders("early_warning_v2", "done").await, 2, "the old version is left alone");
}
