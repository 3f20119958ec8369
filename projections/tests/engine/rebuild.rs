//! Versions beside each other: filled, compared, switched to and back, and dropped, while consumers go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nexus_projections::engine::rebuild::{Pace, RebuildError};
use nexus_projections::engine::{Engine, versions};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{Poison, Toy, World, assert_same, eventually};

const FAST: Pace = Pace { jobs: 2, share: 100 };

async fn execute(pool: &PgPool, statement: &str) -> u64 {
    sqlx::query(statement).execute(pool).await.unwrap().rows_affected()
}

async fn served(world: &World) -> i32 {
    let versions = versions::all(&world.read).await.unwrap();
    versions.iter().find(|it| it.active).unwrap().version
}

/// One row of somebody is not as the log says.
async fn spoil(world: &World) -> Uuid {
    sqlx::query_scalar(
        "update toy_v1.tallies set events = events + 1 where subject = (select min(subject::text)::uuid from toy_v1.tallies)
         returning subject",
    )
    .fetch_one(&world.read)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_filled_compared_and_switched_to_under_load() {
    let world = Arc::new(World::new(40).await);
    let toy = Toy::named("toy");
    let engines =
        [Engine::start(&world.config(), vec![toy.clone()]), Engine::start(&world.config(), vec![toy.clone()])];
    world.publish(3_000).await;
    world.wait_caught_up(&toy).await;
    let (enough, stop) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
    let load = tokio::spawn({
        let (world, enough) = (world.clone(), enough.clone());
        async move {
            while !enough.load(Ordering::Relaxed) {
                world.publish(50).await;
            }
        }
    });
    let rebuild = world.rebuild(toy.clone(), FAST);
    let running = rebuild.begin().await.unwrap();
    let mut told = Vec::new();
    running.fill(&stop, |progress| told.push(progress)).await.unwrap();
    assert!(told.last().unwrap().applied >= 2_500, "{told:?}");
    let comparison = running.compare(&stop).await.unwrap();
    assert!(comparison.is_equal(), "{comparison:?}");
    assert_eq!((comparison.served_version, comparison.version), (1, 2));
    assert_eq!((comparison.tables.len(), comparison.tables[0].same), (1, 40));
    assert_eq!(served(&world).await, 1, "nothing is switched unasked");
    running.switch(&stop).await.unwrap();
    assert_eq!(served(&world).await, 2);

    let old = world.rows_in(&toy, 1).await;
    let before = world.history.lock().unwrap().len();
    eventually("the load goes on", async || world.history.lock().unwrap().len() > before + 300).await;
    enough.store(true, Ordering::Relaxed);
    load.await.unwrap();
    world.wait_caught_up(&toy).await;
    assert_same(&world.rows_in(&toy, 2).await, &world.expected(|_| false));
    assert_eq!(world.rows_in(&toy, 1).await, old, "what is kept stays as it was");
    for engine in engines {
        engine.stop().await;
    }
    Arc::into_inner(world).unwrap().gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_differ_are_named_and_mended_by_the_switch() {
    let world = World::new(20).await;
    let toy = Toy::named("toy");
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.publish(1_000).await;
    world.wait_caught_up(&toy).await;
    let spoilt = spoil(&world).await;
    let stop = CancellationToken::new();
    let rebuild = world.rebuild(toy.clone(), FAST);
    let running = rebuild.begin().await.unwrap();
    running.fill(&stop, |_| {}).await.unwrap();
    let comparison = running.compare(&stop).await.unwrap();
    assert!(!comparison.is_equal());
    let table = &comparison.tables[0];
    assert_eq!((table.same, table.only_served, table.only_new), (19, 1, 1));
    let named: Vec<_> = table.differences.iter().map(|it| (it.version, it.key["subject"].as_str().unwrap())).collect();
    assert_eq!(named, [(1, spoilt.to_string().as_str()), (2, spoilt.to_string().as_str())]);
    running.switch(&stop).await.unwrap();
    world.publish(100).await;
    world.wait_caught_up(&toy).await;
    assert_same(&world.rows_in(&toy, 2).await, &world.expected(|_| false));
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_was_stopped_goes_on_and_two_do_not_meet() {
    let world = World::new(20).await;
    let toy = Toy::named("toy");
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.publish(12_000).await;
    world.wait_caught_up(&toy).await;
    let rebuild = world.rebuild(toy.clone(), Pace { jobs: 1, share: 1 });
    let running = rebuild.begin().await.unwrap();
    assert!(matches!(world.rebuild(toy.clone(), FAST).begin().await, Err(RebuildError::Busy(_))));
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let outcome = running
        .fill(&stop, move |progress| {
            if progress.applied > 0 {
                stopping.cancel()
            }
        })
        .await;
    assert!(matches!(outcome, Err(RebuildError::Stopped)), "{outcome:?}");
    drop(running);
    let done: i64 =
        sqlx::query_scalar("select sum(position)::bigint from projection.checkpoints where version = 2 and not served")
            .fetch_one(&world.read)
            .await
            .unwrap();
    assert!(done > 0 && done < 12_000, "{done}");

    let stop = CancellationToken::new();
    let rebuild = world.rebuild(toy.clone(), FAST);
    let running = rebuild.begin().await.unwrap();
    assert_eq!(running.version(), 2, "the same version again");
    let mut least = i64::MAX;
    running.fill(&stop, |progress| least = least.min(progress.applied)).await.unwrap();
    assert!(least >= done, "it began with {least} instead of {done}");
    assert!(running.compare(&stop).await.unwrap().is_equal());
    running.switch(&stop).await.unwrap();
    assert_same(&world.rows_in(&toy, 2).await, &world.expected(|_| false));
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_a_way_back_and_an_end_of_what_is_kept() {
    let world = World::new(20).await;
    let toy = Toy::named("toy");
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.publish(500).await;
    world.wait_caught_up(&toy).await;
    let stop = CancellationToken::new();
    let rebuild = world.rebuild(toy.clone(), FAST);
    assert!(matches!(rebuild.drop_version(1).await, Err(RebuildError::Served(_, 1))));
    assert!(matches!(rebuild.return_to(1).await, Err(RebuildError::Served(_, 1))));
    assert!(matches!(rebuild.return_to(7).await, Err(RebuildError::NoVersion(_, 7))));
    let running = rebuild.begin().await.unwrap();
    running.switch(&stop).await.unwrap();
    drop(running);
    world.publish(500).await;
    world.wait_caught_up(&toy).await;
    assert_eq!(served(&world).await, 2);

    let running = rebuild.return_to(1).await.unwrap();
    running.fill(&stop, |_| {}).await.unwrap();
    running.switch(&stop).await.unwrap();
    drop(running);
    assert_eq!(served(&world).await, 1);
    world.publish(500).await;
    world.wait_caught_up(&toy).await;
    world.assert_exact(&toy).await;

    rebuild.drop_version(2).await.unwrap();
    let left: i64 = sqlx::query_scalar(
        "select (select count(*) from projection.schemas where version = 2)
              + (select count(*) from projection.checkpoints where version = 2)
              + (select count(*) from pg_namespace where nspname = 'toy_v2')",
    )
    .fetch_one(&world.read)
    .await
    .unwrap();
    assert_eq!(left, 0);
    world.publish(100).await;
    world.wait_caught_up(&toy).await;
    world.assert_exact(&toy).await;
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_applied_is_parked_in_the_new_version_too() {
    let world = World::new(10).await;
    let toy = Toy::named("toy");
    let events = world.append(1_000).await;
    toy.poison.lock().unwrap().insert(events[300].header.aggregate_id, Poison::Code);
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.produce(&events).await;
    world.wait_caught_up(&toy).await;
    let stop = CancellationToken::new();
    let rebuild = world.rebuild(toy.clone(), FAST);
    let running = rebuild.begin().await.unwrap();
    running.fill(&stop, |_| {}).await.unwrap();
    assert!(running.compare(&stop).await.unwrap().is_equal());
    running.switch(&stop).await.unwrap();
    let parked: Vec<(i32, i64)> =
        sqlx::query_as("select version, count(*) from projection.parked group by version order by version")
            .fetch_all(&world.read)
            .await
            .unwrap();
    assert!(parked[0].1 > 1);
    assert_eq!((parked[0].0, parked[1]), (1, (2, parked[0].1)));
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_new_version_parks_is_named_before_the_switch() {
    let world = World::new(10).await;
    let toy = Toy::named("toy");
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    let events = world.publish(1_000).await;
    world.wait_caught_up(&toy).await;
    let bad = &events[300];
    toy.poison.lock().unwrap().insert(bad.header.aggregate_id, Poison::Code);
    let stop = CancellationToken::new();
    let rebuild = world.rebuild(toy.clone(), FAST);
    let running = rebuild.begin().await.unwrap();
    running.fill(&stop, |_| {}).await.unwrap();
    let comparison = running.compare(&stop).await.unwrap();
    assert!(!comparison.is_equal());
    let [named] = &comparison.parked[..] else { panic!("{comparison:?}") };
    assert_eq!(
        (named.subject, named.position, named.reason.as_str()),
        (bad.header.subject, bad.position, "toy.poison")
    );
    assert_eq!((comparison.parked_served, comparison.parked_new), (0, named.waiting));
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_erased_is_forgotten_in_what_is_kept() {
    let world = World::new(10).await;
    let toy = Toy::named("toy");
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    let events = world.publish(500).await;
    world.wait_caught_up(&toy).await;
    let stop = CancellationToken::new();
    let rebuild = world.rebuild(toy.clone(), FAST);
    let running = rebuild.begin().await.unwrap();
    running.fill(&stop, |_| {}).await.unwrap();
    running.switch(&stop).await.unwrap();
    let gone = world.subjects[2];
    world.erase(gone).await;
    let event = world.append_erased(&events, gone).await;
    world.produce(&[event]).await;
    world.wait_caught_up(&toy).await;
    for version in [1, 2] {
        let rows = world.rows_in(&toy, version).await;
        assert_eq!((rows.len(), rows.contains_key(&gone)), (9, false), "version {version}");
    }
    let noted: Vec<(i32, i64)> = sqlx::query_as("select version, rows from projection.forgotten order by version")
        .fetch_all(&world.read)
        .await
        .unwrap();
    assert_eq!(noted, [(1, 1), (2, 1)]);
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_subject_is_made_anew_and_nobody_else() {
    let world = World::new(10).await;
    let toy = Toy::named("toy");
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    let events = world.append(500).await;
    let poison = events[250].clone();
    toy.poison.lock().unwrap().insert(poison.header.aggregate_id, Poison::Code);
    world.produce(&events).await;
    world.wait_caught_up(&toy).await;
    let spoilt = spoil(&world).await;
    let rebuild = world.rebuild(toy.clone(), FAST);

    let checked = rebuild.subject(spoilt, true).await;
    if spoilt == poison.header.subject {
        assert!(matches!(checked, Err(RebuildError::Event(code)) if code == "toy.poison"));
    } else {
        let checked = checked.unwrap();
        assert!(!checked.is_equal());
        assert_eq!((checked.tables[0].only_served, checked.tables[0].only_new), (1, 1));
    }
    assert!(matches!(rebuild.subject(poison.header.subject, false).await, Err(RebuildError::Event(_))));
    toy.poison.lock().unwrap().clear();
    let (mended, live) = tokio::join!(rebuild.subject(spoilt, false), world.publish(200));
    let mended = mended.unwrap();
    assert!(!mended.is_equal() && mended.events > 40, "{mended:?}");
    assert_eq!(live.len(), 200);
    let unparked = rebuild.subject(poison.header.subject, false).await.unwrap();
    assert!(unparked.unparked > 0 || spoilt == poison.header.subject);
    world.wait_caught_up(&toy).await;
    world.assert_exact(&toy).await;
    assert!(rebuild.subject(spoilt, true).await.unwrap().is_equal());
    assert_eq!(rebuild.subject(Uuid::new_v4(), false).await.unwrap().events, 0, "nobody of that id");
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_of_the_old_version_changes_nothing_after_the_switch() {
    let world = World::new(10).await;
    let toy = Toy::named("toy");
    *toy.delay.lock().unwrap() = Duration::from_millis(20);
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.publish(2_000).await;
    let stop = CancellationToken::new();
    let rebuild = world.rebuild(toy.clone(), FAST);
    let running = rebuild.begin().await.unwrap();
    running.switch(&stop).await.unwrap();
    let old = world.rows_in(&toy, 1).await;
    let epochs = "update projection.checkpoints set position = position where version = 1 and served";
    assert_eq!(execute(&world.read, epochs).await, 0, "nobody can take the old one");
    world.wait_caught_up(&toy).await;
    assert_same(&world.rows_in(&toy, 2).await, &world.expected(|_| false));
    assert_eq!(world.rows_in(&toy, 1).await, old);
    engine.stop().await;
    world.gone().await;
}
