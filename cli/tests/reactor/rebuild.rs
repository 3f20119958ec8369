//! What a version orders that is not the one that is served is not carried out.

use nexus_testkit::{DEADLINE, eventually};

use crate::world::World;

const SERVE: &str = "update projection.versions set active_version = $1 where read_model = 'early_warning'";

/// The tables of a version that was filled from the beginning: the same orders, all of them still due.
const REBUILD: &str = "
    create schema early_warning_v2;
    create table early_warning_v2.orders (like early_warning_v1.orders including all);
    insert into early_warning_v2.orders
    select key || '/otherwise', subject, target, partition, position, due_at, path, body, 'due', 0, due_at, null
    from early_warning_v1.orders;
    grant usage on schema early_warning_v2 to nexus_reactor;
    grant select, update on early_warning_v2.orders to nexus_reactor";

async fn serve(world: &World, version: i32) {
    sqlx::query(SERVE).bind(version).execute(&world.read).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_fires_nothing_again() {
    let world = World::start().await;
    let (_projector, _reactor) = (world.projector().await, world.reactor());
    // A version that is not served fills up, and nobody is alarmed.
    serve(&world, 9).await;
    let (patient, _) = world.inpatient().await;
    world.is_well(patient).await;
    world.measure(patient, "8867-4", 140.0, "/min").await;
    eventually("an order that nobody carries out", DEADLINE, || async {
        (world.orders("early_warning_v1", "due").await == 1).then_some(())
    })
    .await;
    assert!(world.events("Alert", patient).await.is_empty());
    serve(&world, 1).await;
    world.wait_for_events("Alert", patient, &["Alert.Raised"]).await;
    world.measure(patient, "8867-4", 70.0, "/min").await;
    world.wait_for_events("Alert", patient, &["Alert.Raised", "Alert.Cleared"]).await;
    eventually("both are noted", DEADLINE, || async {
        (world.orders("early_warning_v1", "done").await == 2).then_some(())
    })
    .await;
    // Another version takes over, which would have ordered the same under other keys: the alert is not raised again.
    sqlx::raw_sql(REBUILD).execute(&world.read).await.unwrap();
    serve(&world, 2).await;
    eventually("what was ordered before is superseded", DEADLINE, || async {
        (world.orders("early_warning_v2", "superseded").await == 2).then_some(())
    })
    .await;
    // What it orders from then on is carried out.
    sqlx::raw_sql(
        "insert into early_warning_v2.orders
         select key || '/new', subject, target, partition, position + 1000000, now(), path, body, 'due', 0, now(), null
         from early_warning_v2.orders order by position limit 1",
    )
    .execute(&world.read)
    .await
    .unwrap();
    world.wait_for_events("Alert", patient, &["Alert.Raised", "Alert.Cleared", "Alert.Raised"]).await;
}
