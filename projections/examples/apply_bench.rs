//! How many events a second go through the engine: `cargo run --release -p nexus-projections --example apply_bench`.
//!
//! Needs `NEXUS_TEST_POSTGRES` and `NEXUS_TEST_KAFKA`, makes databases and a topic of its own, fills the topic, and
//! then lets one read model catch up from the beginning.

#[path = "../tests/engine/counters.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "they are the tests' counters: they ask, and they may panic")]
mod counters;
#[path = "../tests/engine/words.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "the tests ask what was said, and they may panic")]
mod words;
#[path = "../tests/engine/world.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "it is the tests' world: they use the rest, and they may panic")]
mod world;

use std::io::Write;
use std::time::Instant;

use nexus_projections::engine::{Engine, EngineConfig, Limits};
use world::{Toy, World};

const EVENTS: usize = 200_000;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let world = World::new(2_000).await;
    for _ in 0..20 {
        world.publish(EVENTS / 20).await;
    }
    let toy = Toy::named("toy");
    let config = EngineConfig { limits: Limits::default(), ..world.config() };
    let started = Instant::now();
    let engine = Engine::start(&config, vec![toy.clone()]);
    world.wait_caught_up(&toy).await;
    let seconds = started.elapsed().as_secs_f64();
    world.assert_exact(&toy).await;
    let batches = toy.batches.load(std::sync::atomic::Ordering::Relaxed);
    let rate = EVENTS as f64 / seconds;
    writeln!(std::io::stdout(), "{EVENTS} events in {seconds:.2} s: {rate:.0} events/s, {batches} batches")?;
    engine.stop().await;
    world.gone().await;
    Ok(())
}
