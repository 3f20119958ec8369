//! Real processes, really killed (SIGKILL), and frozen until others have taken over (SIGSTOP, SIGCONT).

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nexus_projections::engine::Engine;

use crate::world::{PARTITIONS, Toy, World, eventually, open_world};

const CHILD: &str = "ENGINE_TEST_CHILD";

/// Not a test: the process that the tests below start, kill and freeze.
#[tokio::test(flavor = "multi_thread")]
async fn child_process() {
    let Ok(description) = std::env::var(CHILD) else { return };
    let parts: Vec<&str> = description.split(' ').collect();
    let (config, toy) = open_world(parts[0], parts[1]).await;
    *toy.delay.lock().unwrap() = Duration::from_millis(3);
    let _engine = Engine::start(&config, vec![toy]);
    std::future::pending::<()>().await;
}

struct Process(Child);

impl Process {
    fn start(world: &World) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::child_process"])
            .env(CHILD, format!("{} {}", world.name, world.master_key_file().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Killing one that is gone already is fine.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

async fn epochs(world: &World) -> BTreeMap<i32, i64> {
    let rows: Vec<(i32, i64)> =
        sqlx::query_as("select partition, epoch from projection.checkpoints").fetch_all(&world.read).await.unwrap();
    rows.into_iter().collect()
}

async fn moves_on(world: &World, toy: &Toy) {
    let before = world.positions(toy).await;
    eventually("some progress", async || {
        world.publish(20).await;
        world.positions(toy).await != before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_processes_lose_and_repeat_nothing() {
    let world = World::new(60).await;
    let toy = Toy::named("toy");
    let _stays = Process::start(&world);
    for _ in 0..4 {
        let killed = Process::start(&world);
        moves_on(&world, &toy).await;
        world.publish(600).await;
        killed.signal("-KILL");
        world.publish(200).await;
    }
    world.wait_caught_up(&toy).await;
    world.assert_exact(&toy).await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_frozen_past_its_session_changes_nothing_when_it_wakes() {
    let world = World::new(60).await;
    let toy = Toy::named("toy");
    let frozen = Process::start(&world);
    moves_on(&world, &toy).await;
    eventually("it owns everything", async || {
        world.publish(50).await;
        epochs(&world).await.len() == usize::try_from(PARTITIONS).unwrap()
    })
    .await;
    world.publish(1_000).await;
    frozen.signal("-STOP");
    let before = epochs(&world).await;
    let _heir = Process::start(&world);
    eventually("another takes every partition over", async || {
        let now = epochs(&world).await;
        before.iter().all(|(partition, epoch)| now[partition] > *epoch)
    })
    .await;
    world.publish(500).await;
    world.wait_caught_up(&toy).await;
    frozen.signal("-CONT");
    for _ in 0..10 {
        world.publish(100).await;
    }
    world.wait_caught_up(&toy).await;
    world.assert_exact(&toy).await;
    world.gone().await;
}
