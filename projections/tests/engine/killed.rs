//! Real processes, really killed (SIGKILL), and frozen until others have taken over (SIGSTOP, SIGCONT).

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nexus_projections::engine::{Engine, GroupProtocol};

use crate::world::{PARTITIONS, Toy, World, eventually, open_world};

const CHILD: &str = "ENGINE_TEST_CHILD";

/// Not a test: the process that the tests below start, kill and freeze.
#[tokio::test(flavor = "multi_thread")]
async fn child_process() {
    let Ok(description) = std::env::var(CHILD) else { return };
    let parts: Vec<&str> = description.split(' ').collect();
    let (mut config, toy) = open_world(parts[0], parts[1]).await;
    config.group_protocol = GroupProtocol::from_str(parts[2], false).unwrap();
    *toy.delay.lock().unwrap() = Duration::from_millis(3);
    let engine = Engine::start(&config, vec![toy]);
    nexus_web::shutdown::signal().await;
    engine.stop().await;
}

struct Process(Child);

impl Process {
    fn start(world: &World) -> Self {
        Self::start_with(world, GroupProtocol::default())
    }

    fn start_with(world: &World, protocol: GroupProtocol) -> Self {
        let protocol = protocol.to_possible_value().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::child_process"])
            .env(CHILD, format!("{} {} {}", world.name, world.master_key_file().display(), protocol.get_name()))
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

impl Process {
    /// Asks it to stop, and waits for that.
    async fn stop(mut self) {
        self.signal("-TERM");
        tokio::task::spawn_blocking(move || self.0.wait().unwrap()).await.unwrap();
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

/// The longest that a partition may stand still while there is something to do.
const STALL_MAX: Duration = Duration::from_secs(10);
/// How long it may take to be level after the last change.
const LEVEL_MAX: Duration = Duration::from_secs(30);

/// Watches until told to stop: the longest time in which a partition had lag and did not move.
async fn longest_stall(world: &World, toy: &Toy, stop: &tokio_util::sync::CancellationToken) -> Duration {
    let (mut longest, begin) = (Duration::ZERO, Instant::now());
    let mut moved: BTreeMap<i32, (i64, Instant)> = (0..PARTITIONS).map(|partition| (partition, (0, begin))).collect();
    let pause = Duration::from_millis(100);
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let now = world.positions(toy).await;
        let heads = heads(world);
        for (partition, (position, at)) in &mut moved {
            let reached = now.get(partition).copied().unwrap_or_default();
            if reached != *position || Some(&reached) == heads.get(partition) {
                (*position, *at) = (reached, Instant::now());
            }
            longest = longest.max(at.elapsed());
        }
    }
    longest
}

/// Where each partition ends.
fn heads(world: &World) -> BTreeMap<i32, i64> {
    let history = world.history.lock().unwrap();
    history.iter().map(|event| (event.partition, event.position)).collect()
}

/// When the next process is started, stopped or killed.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// When the group has got over the change before.
    Settled,
    /// After so long, whether it has or not.
    After(Duration),
}

/// Starts, stops and kills processes so often, under load all the time.
/// Answers for how long a partition stood still at most.
async fn rebalances(count: usize, next: Next, protocol: GroupProtocol) -> Duration {
    let world = World::new(200).await;
    let toy = Toy::named("toy");
    let stop = tokio_util::sync::CancellationToken::new();
    let start = || Process::start_with(&world, protocol);
    let mut processes = vec![start(), start()];
    let load = async {
        while !stop.is_cancelled() {
            // One event of each subject, so that every partition has something to do.
            world.publish(200).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let changes = async {
        every_partition_moves(&world, &toy).await;
        for change in 0..count {
            match change % 4 {
                0 | 2 => processes.push(start()),
                1 => processes.remove(0).stop().await,
                _ => drop(processes.remove(0)),
            }
            match next {
                Next::Settled => every_partition_moves(&world, &toy).await,
                Next::After(pause) => tokio::time::sleep(pause).await,
            }
        }
        every_partition_moves(&world, &toy).await;
        stop.cancel();
    };
    let ((), (), stalled) = tokio::join!(load, changes, longest_stall(&world, &toy, &stop));
    let ended = Instant::now();
    world.wait_caught_up(&toy).await;
    tracing::info!(count, ?next, ?stalled, level_after = ?ended.elapsed(), "changes of the group");
    assert!(ended.elapsed() < LEVEL_MAX, "level after {:?} only", ended.elapsed());
    world.assert_exact(&toy).await;
    world.gone().await;
    stalled
}

/// Waits until the group has got over a change, as far as anybody can see.
async fn every_partition_moves(world: &World, toy: &Toy) {
    let before = world.positions(toy).await;
    eventually("every partition moves on", async || {
        let now = world.positions(toy).await;
        (0..PARTITIONS).all(|partition| now.get(&partition) > before.get(&partition))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_changes_of_the_group_under_load_stall_and_repeat_nothing() {
    rebalances(6, Next::Settled, GroupProtocol::Classic).await;
}

/// Two minutes: run it by name.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn fifty_changes_of_the_group_under_load_stall_and_repeat_nothing() {
    let stalled = rebalances(50, Next::Settled, GroupProtocol::Classic).await;
    // On a machine that does nothing else: the session timeout of who was killed, and a hand-over.
    assert!(stalled < STALL_MAX, "a partition stood still for {stalled:?}");
}

/// The same, with the next change while the group is still at the one before. That takes the protocol in which nobody waits for
/// who is gone but those who get its partitions, and a broker that misses a process after 6 seconds, as ours does.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn fifty_changes_that_overlap_stall_and_repeat_nothing() {
    let stalled = rebalances(50, Next::After(Duration::from_secs(2)), GroupProtocol::Consumer).await;
    assert!(stalled < STALL_MAX, "a partition stood still for {stalled:?}");
}
