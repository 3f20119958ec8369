//! What the query door asks: lag, and has this write been seen?

use std::time::Duration;

use nexus_projections::engine::checkpoint::Name;
use nexus_projections::engine::{Engine, Watcher, lag};

use crate::world::{Toy, World, eventually};

const NAME: Name<'_> = Name { read_model: "toy", version: 1 };

#[tokio::test(flavor = "multi_thread")]
async fn thousands_wait_for_a_write_and_are_woken_by_it() {
    let world = World::new(20).await;
    let toy = Toy::named("toy");
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.publish(100).await;
    world.wait_caught_up(&toy).await;
    let watcher = Watcher::start(world.read.clone());
    let last = world.append(100).await.last().unwrap().clone();
    let waits: Vec<_> = (0..5_000)
        .map(|_| {
            let (watcher, place) = (watcher.clone(), (last.partition, last.position));
            tokio::spawn(async move { watcher.wait_for(NAME, &[place], Duration::from_secs(20)).await })
        })
        .collect();
    assert!(!watcher.wait_for(NAME, &[(last.partition, last.position)], Duration::from_millis(100)).await, "too early");
    let history = world.history.lock().unwrap()[100..].to_vec();
    world.produce(&history).await;
    for wait in waits {
        assert!(wait.await.unwrap());
    }
    assert!(watcher.wait_for(NAME, &[(last.partition, last.position)], Duration::ZERO).await, "known by now");
    let later = Name { version: 2, ..NAME };
    assert!(!watcher.wait_for(later, &[(last.partition, last.position)], Duration::from_millis(10)).await);
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_a_stopped_read_model_is_seen() {
    let (ended, runs) = (Toy::named("ended"), Toy::named("runs"));
    let world = World::with_models(20, &[ended.clone(), runs.clone()]).await;
    let mut engine = Engine::start(&world.config(), vec![ended.clone(), runs.clone()]);
    world.publish(120).await;
    world.wait_caught_up(&ended).await;
    world.wait_caught_up(&runs).await;
    engine.stop_one("ended").await;
    world.publish(240).await;
    world.wait_caught_up(&runs).await;
    let sum = async |read_model: &str| {
        let lags = lag(&world.read).await.unwrap();
        lags.iter().filter(|lag| lag.read_model == read_model).map(|lag| lag.lag).sum::<i64>()
    };
    // What a consumer counts ahead of it may be too much, until it is level.
    eventually("all that it missed is seen", async || sum("ended").await == 240).await;
    eventually("the other has none", async || sum("runs").await == 0).await;
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_was_reckoned_too_far_is_put_right_by_who_is_level() {
    let world = World::new(20).await;
    let toy = Toy::named("toy");
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.publish(120).await;
    world.wait_caught_up(&toy).await;
    // What is left of a consumer that counted repeated records as events.
    sqlx::query(
        "insert into projection.heads as known select partition, position + 1000 from projection.checkpoints
         on conflict (log, partition) do update set position = excluded.position",
    )
    .execute(&world.read)
    .await
    .unwrap();
    eventually("no lag is left", async || lag(&world.read).await.unwrap().iter().all(|lag| lag.lag == 0)).await;
    engine.stop().await;
    world.gone().await;
}
