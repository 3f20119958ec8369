//! A topic that repeats, skips, holds what is not ours, or is no longer the one it was.

use nexus_event_store::kafka::create_topic;
use nexus_projections::ReadModel;
use nexus_projections::engine::Engine;

use crate::world::{PARTITIONS, Toy, World, delete_records, delete_topic, eventually};
use crate::{counters, words};

/// What is said of it.
const CHANGED: &str = "the topic is not the one read before";

#[tokio::test(flavor = "multi_thread")]
async fn repetitions_are_dropped_and_gaps_filled() {
    let toy = Toy::named("repeats");
    let world = World::with_models(50, std::slice::from_ref(&toy)).await;
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    let events = world.append(2_000).await;
    let mut records = Vec::new();
    let (mut skipped, mut repeated) = (0, 0);
    for (index, event) in events.iter().enumerate() {
        // Every 17th is missing unless it is the last of its partition; every 5th comes twice, some much later.
        if index % 17 != 0 || event.position == world.head(event.partition) {
            records.push(event.clone());
        } else {
            skipped += 1;
        }
        if index % 5 == 0 {
            records.push(events[index / 2].clone());
            repeated += 1;
        }
    }
    world.produce(&records).await;
    world.wait_caught_up(&toy).await;
    world.assert_exact(&toy).await;
    engine.stop().await;
    // A repeated record of a skipped position fills nothing: by then the store has.
    let duplicates = counters::of("projection_duplicates_total", "repeats");
    let filled = counters::of("projection_gaps_filled_total", "repeats");
    assert!(filled > 0 && filled <= skipped, "{filled} filled of {skipped} skipped");
    assert_eq!(duplicates + skipped, repeated + filled, "every record is accounted for");
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_that_nobody_can_fill_stops_its_partition_only() {
    let world = World::new(50).await;
    let toy = Toy::named("toy");
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    let events = world.append(1_000).await;
    let stuck = events[0].partition;
    sqlx::query("alter table events rename to hidden").execute(&world.log).await.unwrap();
    let kept: Vec<_> = events.iter().filter(|event| (event.partition, event.position) != (stuck, 5)).cloned().collect();
    world.produce(&kept).await;
    eventually("the others are level", async || {
        let positions = world.positions(&toy).await;
        (0..PARTITIONS)
            .filter(|partition| *partition != stuck)
            .all(|partition| positions.get(&partition).copied().unwrap_or(0) == world.head(partition))
    })
    .await;
    eventually("it stands before the gap", async || world.positions(&toy).await[&stuck] == 4).await;
    sqlx::query("alter table hidden rename to events").execute(&world.log).await.unwrap();
    world.wait_caught_up(&toy).await;
    world.assert_exact(&toy).await;
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_not_ours_are_stepped_over() {
    let toy = Toy::named("strangers");
    let world = World::with_models(20, std::slice::from_ref(&toy)).await;
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    for _ in 0..3 {
        world.publish(100).await;
        for partition in 0..PARTITIONS {
            world.produce_garbage(partition).await;
        }
    }
    world.publish(100).await;
    world.wait_caught_up(&toy).await;
    world.assert_exact(&toy).await;
    engine.stop().await;
    assert!(counters::of("projection_unreadable_records_total", "strangers") > 0, "nobody counted them");
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_topic_is_noticed_and_what_it_lost_comes_from_the_store() {
    let (behind, new) = (Toy::named("truncated"), Toy::named("truncated_new"));
    let world = World::with_models(20, &[behind.clone(), new.clone()]).await;
    let engine = Engine::start(&world.config(), vec![behind.clone()]);
    world.publish(300).await;
    world.wait_caught_up(&behind).await;
    engine.stop().await;
    // Lost before anybody has read it, and nothing comes after it that would reveal a gap.
    let lost = world.publish(300).await.len() as u64;
    delete_records(&world.kafka, &world.topic).await;
    let engine = Engine::start(&world.config(), vec![behind.clone(), new.clone()]);
    for (toy, filled) in [(&behind, lost), (&new, 300 + lost)] {
        world.wait_caught_up(toy).await;
        world.assert_exact(toy).await;
        assert_eq!(counters::of("projection_gaps_filled_total", toy.name()), filled);
        assert!(counters::of("projection_topic_changes_total", toy.name()) > 0, "nobody noticed");
        assert!(words::said(toy.name(), CHANGED), "nobody said so");
    }
    // And it goes on, with nothing to complain of.
    world.publish(100).await;
    for toy in [&behind, &new] {
        world.wait_caught_up(toy).await;
        world.assert_exact(toy).await;
    }
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_recreated_while_nobody_reads_is_noticed_and_positions_decide() {
    let toy = Toy::named("replaced");
    let world = World::with_models(20, std::slice::from_ref(&toy)).await;
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    let first = world.publish(600).await;
    world.wait_caught_up(&toy).await;
    engine.stop().await;
    recreate(&world).await;
    // Shorter than before in some partitions, with all events in others: an older copy and a full replay at once.
    let (some, all): (Vec<_>, Vec<_>) = first.into_iter().partition(|event| event.partition % 2 == 0);
    world.produce(&some[..some.len() / 3]).await;
    world.produce(&all).await;
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.publish(600).await;
    world.wait_caught_up(&toy).await;
    world.assert_exact(&toy).await;
    assert!(counters::of("projection_topic_changes_total", "replaced") > 0, "nobody noticed");
    assert!(words::said("replaced", CHANGED), "nobody said so");
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_recreated_while_it_is_read_is_noticed_and_positions_decide() {
    let toy = Toy::named("replaced_live");
    let world = World::with_models(20, std::slice::from_ref(&toy)).await;
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.publish(600).await;
    world.wait_caught_up(&toy).await;
    recreate(&world).await;
    world.publish(300).await;
    world.wait_caught_up(&toy).await;
    world.assert_exact(&toy).await;
    assert!(counters::of("projection_topic_changes_total", "replaced_live") > 0, "nobody noticed");
    assert!(words::said("replaced_live", CHANGED), "nobody said so");
    engine.stop().await;
    world.gone().await;
}

async fn recreate(world: &World) {
    delete_topic(&world.kafka, &world.topic).await;
    eventually("the topic is there again", async || create_topic(&world.kafka, &world.topic, PARTITIONS).await.is_ok())
        .await;
}
