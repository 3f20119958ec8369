//! How long from an observation to an alert that the read door shows, under load. A measurement and no test of every day:
//! `cargo test --profile suite --workspace --test reactor latency -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nexus_testkit::DEADLINE;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::world::{World, observation};

const PER_SECOND: u32 = 200;
const SECONDS: u32 = 20;
/// One in so many observations changes a risk and is followed to the read door.
const FOLLOWED: u32 = 10;
const P99_AT_MOST: Duration = Duration::from_millis(250);

/// Measures a pulse of this and answers how long it took until the alert stands, or no longer does.
async fn follow(world: Arc<World>, patient: Uuid, is_fast: bool) -> Duration {
    let pulse = observation("8867-4", if is_fast { 140.0 } else { 70.0 }, "/min");
    let path = format!("/v1/patients/{patient}/alerts");
    let began = Instant::now();
    world.service.post(&format!("/v1/patients/{patient}/observations"), &pulse).await.expect(201);
    loop {
        let stands =
            world.nurse.get(&path).await.expect(200).json()["items"].as_array().is_some_and(|it| !it.is_empty());
        if stands == is_fast {
            return began.elapsed();
        }
        assert!(began.elapsed() < DEADLINE, "no alert");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: half a minute of load"]
async fn an_alert_is_seen_within_a_quarter_of_a_second_at_200_observations_a_second() {
    let world = Arc::new(World::start().await);
    let (_projector, _reactor) = (world.projector().await, world.reactor());
    let mut patients = Vec::new();
    for _ in 0..100 {
        let (patient, _) = world.inpatient().await;
        world.is_well(patient).await;
        patients.push(patient);
    }
    follow(world.clone(), patients[0], true).await;
    follow(world.clone(), patients[0], false).await;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut followed, mut others) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for index in 0..PER_SECOND * SECONDS {
        ticks.tick().await;
        let patient = patients[(index / FOLLOWED) as usize % patients.len()];
        if index % FOLLOWED == 0 {
            let is_fast = ((index / FOLLOWED) as usize / patients.len()).is_multiple_of(2);
            followed.push(tokio::spawn(follow(world.clone(), patient, is_fast)));
        } else {
            let world = world.clone();
            others.push(tokio::spawn(async move { world.measure(patient, "2708-6", 97.0, "%").await }));
        }
    }
    let rate = f64::from(PER_SECOND * SECONDS) / began.elapsed().as_secs_f64();
    let mut took = Vec::new();
    for task in followed {
        took.push(task.await.unwrap());
    }
    for task in others {
        task.await.unwrap();
    }
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!(
        "{} alerts at {rate:.0} observations/s: p50 {:?}, p90 {:?}, p99 {:?}, max {:?}",
        took.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
    assert!(at(0.99) < P99_AT_MOST);
}
