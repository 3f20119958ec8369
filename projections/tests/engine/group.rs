//! Partitions move between processes.

use std::collections::BTreeSet;

use nexus_projections::engine::{Engine, EngineConfig, GroupProtocol};

use crate::world::{PARTITIONS, Toy, World, eventually};

async fn owners(world: &World) -> BTreeSet<String> {
    let owners: Vec<String> =
        sqlx::query_scalar("select distinct owner from projection.checkpoints").fetch_all(&world.read).await.unwrap();
    owners.into_iter().collect()
}

async fn rebalances(protocol: GroupProtocol) {
    let world = World::new(100).await;
    let toy = Toy::named("toy");
    let config = || EngineConfig { group_protocol: protocol, ..world.config() };
    let stayer = Engine::start(&config(), vec![toy.clone()]);
    world.publish(500).await;
    world.wait_caught_up(&toy).await;
    for round in 0..4 {
        let joiner = Engine::start(&config(), vec![toy.clone()]);
        eventually("partitions are shared", async || {
            world.publish(100).await;
            owners(&world).await.len() >= 2
        })
        .await;
        // Orderly and disorderly departures in turn.
        if round % 2 == 0 {
            joiner.stop().await
        } else {
            drop(joiner)
        }
        world.publish(200).await;
        let started = std::time::Instant::now();
        world.wait_caught_up(&toy).await;
        tracing::info!(?protocol, took = ?started.elapsed(), "level after a departure");
        world.assert_exact(&toy).await;
    }
    assert_eq!(world.positions(&toy).await.len(), usize::try_from(PARTITIONS).unwrap());
    stayer.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hand_overs_of_the_client_side_protocol_lose_and_repeat_nothing() {
    rebalances(GroupProtocol::Classic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hand_overs_of_the_broker_side_protocol_lose_and_repeat_nothing() {
    rebalances(GroupProtocol::Consumer).await;
}
