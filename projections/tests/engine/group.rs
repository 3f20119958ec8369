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

/// Who owns each partition, and how often it was taken over.
async fn ownerships(world: &World) -> Vec<(i32, String, i64)> {
    sqlx::query_as("select partition, owner, epoch from projection.checkpoints order by partition")
        .fetch_all(&world.read)
        .await
        .unwrap()
}

async fn restarts_as_a_static_member(protocol: GroupProtocol) {
    let world = World::new(100).await;
    let toy = Toy::named("toy");
    let member = |name: &str| EngineConfig {
        group_protocol: protocol,
        group_instance: Some(name.to_owned()),
        owner: name.to_owned(),
        ..world.config()
    };
    let stays = Engine::start(&member("stays"), vec![toy.clone()]);
    let mut restarts = Engine::start(&member("restarts"), vec![toy.clone()]);
    let half = usize::try_from(PARTITIONS).unwrap() / 2;
    let share = |ownerships: &[(i32, String, i64)], owner: &str| {
        let of_owner = ownerships.iter().filter(|it| it.1 == owner);
        of_owner.cloned().collect::<Vec<_>>()
    };
    eventually("the partitions are spread evenly", async || {
        world.publish(50).await;
        let all = ownerships(&world).await;
        share(&all, "stays").len() == half && share(&all, "restarts").len() == half
    })
    .await;
    world.wait_caught_up(&toy).await;
    let before = ownerships(&world).await;
    for round in 1..=2 {
        restarts.stop().await;
        restarts = Engine::start(&member("restarts"), vec![toy.clone()]);
        eventually("it has its own again", async || {
            world.publish(50).await;
            let mine = share(&ownerships(&world).await, "restarts");
            mine.len() == half && mine.iter().zip(share(&before, "restarts")).all(|(now, was)| now.2 >= was.2 + round)
        })
        .await;
    }
    world.wait_caught_up(&toy).await;
    assert_eq!(share(&ownerships(&world).await, "stays"), share(&before, "stays"), "nobody else's were moved");
    world.assert_exact(&toy).await;
    restarts.stop().await;
    stays.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_comes_back_to_its_partitions_and_moves_no_others() {
    restarts_as_a_static_member(GroupProtocol::Classic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_of_the_broker_side_protocol_does_so_too() {
    restarts_as_a_static_member(GroupProtocol::Consumer).await;
}
