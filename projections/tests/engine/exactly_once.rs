//! Nothing lost, nothing repeated, whatever dies.

use std::time::Duration;

use nexus_projections::engine::{Engine, row_hashes};

use crate::world::{Toy, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn an_undisturbed_run_applies_every_event_once() {
    let world = World::new(100).await;
    let toy = Toy::named("toy");
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.publish(3_000).await;
    world.wait_caught_up(&toy).await;
    world.assert_exact(&toy).await;
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_killed_at_random_points_lose_and_repeat_nothing() {
    let world = World::new(60).await;
    let toy = Toy::named("toy");
    *toy.delay.lock().unwrap() = Duration::from_millis(2);
    for round in 0..12_u64 {
        let engine = Engine::start(&world.config(), vec![toy.clone()]);
        let before = world.positions(&toy).await;
        world.publish(400).await;
        // Not before it has begun, and then at a moment that differs from round to round.
        eventually("the consumer begins", async || world.positions(&toy).await != before).await;
        tokio::time::sleep(Duration::from_millis(round * 37 % 50)).await;
        drop(engine);
    }
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.wait_caught_up(&toy).await;
    world.assert_exact(&toy).await;
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_is_waited_for() {
    let world = World::new(60).await;
    let toy = Toy::named("toy");
    *toy.delay.lock().unwrap() = Duration::from_millis(5);
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    let mut cut = 0;
    for _ in 0..15 {
        world.publish(200).await;
        cut += world.cut_read_connections().await;
    }
    world.wait_caught_up(&toy).await;
    assert!(cut > 10, "only {cut} connections were cut");
    world.assert_exact(&toy).await;
    let parked: i64 =
        sqlx::query_scalar("select count(*) from projection.parked").fetch_one(&world.read).await.unwrap();
    assert_eq!(parked, 0, "nothing is parked because a database is away");
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disturbed_run_and_an_undisturbed_one_have_the_same_rows() {
    let (calm, wild) = (Toy::named("calm"), Toy::named("wild"));
    let world = World::with_models(40, &[calm.clone(), wild.clone()]).await;
    let engine = Engine::start(&world.config(), vec![calm.clone()]);
    for _ in 0..4 {
        let disturbed = Engine::start(&world.config(), vec![wild.clone()]);
        world.publish(300).await;
        world.cut_read_connections().await;
        drop(disturbed);
    }
    let disturbed = Engine::start(&world.config(), vec![wild.clone()]);
    world.wait_caught_up(&calm).await;
    world.wait_caught_up(&wild).await;
    let hashes = row_hashes(&world.read, "calm_v1").await.unwrap();
    assert_eq!(hashes["tallies"].0, 40);
    assert_eq!(hashes, row_hashes(&world.read, "wild_v1").await.unwrap());
    sqlx::query(
        "update wild_v1.tallies set events = events + 1 where ctid in (select ctid from wild_v1.tallies limit 1)",
    )
    .execute(&world.read)
    .await
    .unwrap();
    assert_ne!(hashes, row_hashes(&world.read, "wild_v1").await.unwrap(), "one changed row shows");
    engine.stop().await;
    disturbed.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_models_do_not_touch_each_other() {
    let (ended, broken, fine) = (Toy::named("ended"), Toy::named("broken"), Toy::named("fine"));
    let world = World::with_models(30, &[ended.clone(), broken.clone(), fine.clone()]).await;
    let mut engine = Engine::start(&world.config(), vec![ended.clone(), broken.clone(), fine.clone()]);
    world.publish(300).await;
    for toy in [&ended, &broken, &fine] {
        world.wait_caught_up(toy).await;
    }
    engine.stop_one("ended").await;
    sqlx::query("alter table broken_v1.tallies rename to hidden").execute(&world.read).await.unwrap();
    let before = world.positions(&ended).await;
    world.publish(300).await;
    world.wait_caught_up(&fine).await;
    world.assert_exact(&fine).await;
    assert_eq!(world.positions(&ended).await, before, "a stopped read model stays where it was");
    assert!(!world.caught_up(&broken).await);
    sqlx::query("alter table broken_v1.hidden rename to tallies").execute(&world.read).await.unwrap();
    world.wait_caught_up(&broken).await;
    world.assert_exact(&broken).await;
    engine.stop().await;
    world.gone().await;
}
