//! What the query door asks: lag, and has this write been seen?

use std::time::{Duration, Instant};

use nexus_projections::engine::{Engine, Watcher, lag};

use crate::world::{Toy, World, eventually};

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
            tokio::spawn(async move { watcher.wait_for("toy", &[place], Duration::from_secs(20)).await })
        })
        .collect();
    assert!(
        !watcher.wait_for("toy", &[(last.partition, last.position)], Duration::from_millis(100)).await,
        "too early"
    );
    let history = world.history.lock().unwrap()[100..].to_vec();
    world.produce(&history).await;
    for wait in waits {
        assert!(wait.await.unwrap());
    }
    let known = Instant::now();
    assert!(watcher.wait_for("toy", &[(last.partition, last.position)], Duration::ZERO).await);
    assert!(known.elapsed() < Duration::from_millis(50));
    assert!(!watcher.wait_for("nobody", &[(0, 1)], Duration::from_millis(10)).await);
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
    assert_eq!(sum("ended").await, 240);
    eventually("the other has none", async || sum("runs").await == 0).await;
    engine.stop().await;
    world.gone().await;
}
