//! Events that can't be applied.

use std::collections::HashSet;

use nexus_event_store::SealedEvent;
use nexus_projections::engine::checkpoint::Name;
use nexus_projections::engine::parked::{BEHIND, discard, list};
use nexus_projections::engine::{Engine, EngineConfig, Limits, row_hashes};
use uuid::Uuid;

use crate::world::{Poison, Toy, World, assert_same};

const NAME: Name<'_> = Name { read_model: "toy", version: 1 };

/// From the `from`-th event of a subject on.
fn from_nth(history: &[SealedEvent], subject: Uuid, from: usize) -> HashSet<(i32, i64)> {
    let of_subject = history.iter().filter(|event| event.header.subject == subject);
    of_subject.skip(from).map(|event| (event.partition, event.position)).collect()
}

async fn poisoned(poison: Poison, code: &str) {
    let world = World::new(20).await;
    let toy = Toy::named("toy");
    let events = world.append(2_000).await;
    let victim = world.subjects[3];
    let bad = events.iter().filter(|event| event.header.subject == victim).nth(10).unwrap().clone();
    toy.poison.lock().unwrap().insert(bad.header.aggregate_id, poison);
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.produce(&events).await;
    world.wait_caught_up(&toy).await;

    let held = from_nth(&events, victim, 10);
    assert_same(&world.rows(&toy).await, &world.expected(|event| held.contains(&(event.partition, event.position))));
    let parked = list(&world.read, NAME, 10).await.unwrap();
    assert_eq!(parked.len(), 1, "one subject only");
    assert_eq!((parked[0].subject, parked[0].position, parked[0].reason.as_str()), (victim, bad.position, code));
    assert_eq!(parked[0].waiting, i64::try_from(held.len()).unwrap());
    let behind: i64 = sqlx::query_scalar("select count(*) from projection.parked where reason = $1")
        .bind(BEHIND)
        .fetch_one(&world.read)
        .await
        .unwrap();
    assert_eq!(behind, parked[0].waiting - 1);

    let retry = world.retry(toy.clone());
    let still = retry.subject(victim).await.unwrap();
    assert_eq!(
        (still.applied, still.stopped_at),
        (0, Some((bad.position, code.to_owned()))),
        "the cause is still there"
    );
    toy.poison.lock().unwrap().clear();
    // New events of the subject arrive while the queue is replayed.
    let more = vec![victim; 50];
    let (more, retried) = tokio::join!(
        async {
            let more = world.append_for(&more).await;
            world.produce(&more).await;
            more
        },
        retry.subject(victim)
    );
    assert!(retried.unwrap().applied >= u64::try_from(held.len()).unwrap());
    assert_eq!(more.len(), 50);
    world.wait_caught_up(&toy).await;
    retry.subject(victim).await.unwrap();
    assert_eq!(list(&world.read, NAME, 10).await.unwrap(), vec![]);
    world.assert_exact(&toy).await;
    let counts: i64 = sqlx::query_scalar("select sum(parked)::bigint from projection.checkpoints")
        .fetch_one(&world.read)
        .await
        .unwrap();
    assert_eq!(counts, 0);
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_an_answer_parks_its_subject_only() {
    poisoned(Poison::Code, "toy.poison").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_database_refuses_parks_its_subject_only() {
    poisoned(Poison::Database, "database.22012").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_makes_the_read_model_panic_parks_its_subject_only() {
    poisoned(Poison::Panic, "panicked").await;
}

/// Of very many events one is bad: one subject waits, nobody else notices, and afterwards nothing shows that it happened.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes up to a minute"]
async fn one_bad_event_among_a_hundred_thousand() {
    const EVENTS: usize = 100_000;
    let (calm, toy) = (Toy::named("calm"), Toy::named("toy"));
    let world = World::with_models(1_000, &[calm.clone(), toy.clone()]).await;
    let events = world.append(EVENTS).await;
    let bad = &events[EVENTS / 2];
    let victim = bad.header.subject;
    toy.poison.lock().unwrap().insert(bad.header.aggregate_id, Poison::Database);
    let config = EngineConfig { limits: Limits::default(), ..world.config() };
    let engine = Engine::start(&config, vec![calm.clone(), toy.clone()]);
    world.produce(&events).await;
    for model in [&calm, &toy] {
        world.wait_caught_up(model).await;
    }
    let parked = list(&world.read, NAME, 10).await.unwrap();
    let [parked] = parked.as_slice() else { panic!("one subject, and not {parked:?}") };
    assert_eq!((parked.subject, parked.position), (victim, bad.position));
    let differing = world.rows(&calm).await.into_iter().collect::<HashSet<_>>();
    let rows = world.rows(&toy).await.into_iter().collect::<HashSet<_>>();
    assert_eq!(differing.symmetric_difference(&rows).count(), 2, "the victim's row and no other");
    toy.poison.lock().unwrap().clear();
    let retried = world.retry(toy.clone()).subject(victim).await.unwrap();
    assert_eq!((retried.applied, retried.stopped_at), (u64::try_from(parked.waiting).unwrap(), None));
    let hashes = row_hashes(&world.read, "calm_v1").await.unwrap();
    assert_eq!(hashes["tallies"].0, 1_000);
    assert_eq!(hashes, row_hashes(&world.read, "toy_v1").await.unwrap());
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_can_not_be_read_is_parked_and_can_be_given_up() {
    let world = World::new(10).await;
    let toy = Toy::named("toy");
    let mut events = world.append(500).await;
    let victim = world.subjects[0];
    let index = events.iter().position(|event| event.header.subject == victim).unwrap();
    *events[index].sealed.last_mut().unwrap() ^= 1;
    let bad = events[index].clone();
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.produce(&events).await;
    world.wait_caught_up(&toy).await;
    let parked = list(&world.read, NAME, 10).await.unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!(
        (parked[0].subject, parked[0].position, parked[0].reason.as_str()),
        (victim, bad.position, "envelope.broken")
    );
    assert!(discard(&world.read, NAME, victim, bad.position).await.unwrap());
    assert!(!discard(&world.read, NAME, victim, bad.position).await.unwrap());
    let retried = world.retry(toy.clone()).subject(victim).await.unwrap();
    assert_eq!(retried.stopped_at, None);
    let given_up = |event: &SealedEvent| (event.partition, event.position) == (bad.partition, bad.position);
    assert_same(&world.rows(&toy).await, &world.expected(given_up));
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_subjects_can_be_parked_at_once() {
    let world = World::new(30).await;
    let toy = Toy::named("toy");
    let events = world.append(1_500).await;
    let bad: Vec<&SealedEvent> = events.iter().step_by(97).collect();
    toy.poison.lock().unwrap().extend(bad.iter().map(|event| (event.header.aggregate_id, Poison::Database)));
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.produce(&events).await;
    world.wait_caught_up(&toy).await;
    let mut victims = HashSet::new();
    let mut held = HashSet::new();
    for event in &events {
        if bad.iter().any(|bad| bad.header.aggregate_id == event.header.aggregate_id) {
            victims.insert(event.header.subject);
        }
        if victims.contains(&event.header.subject) {
            held.insert((event.partition, event.position));
        }
    }
    assert!(victims.len() > 5 && victims.len() < 30);
    assert_same(&world.rows(&toy).await, &world.expected(|event| held.contains(&(event.partition, event.position))));
    toy.poison.lock().unwrap().clear();
    let retry = world.retry(toy.clone());
    for victim in victims {
        assert_eq!(retry.subject(victim).await.unwrap().stopped_at, None);
    }
    world.assert_exact(&toy).await;
    engine.stop().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_subject_is_forgotten_and_leaves_the_queue() {
    let world = World::new(10).await;
    let toy = Toy::named("toy");
    let events = world.append(400).await;
    let victims = [world.subjects[1], world.subjects[2]];
    let bad = victims.map(|victim| events.iter().find(|event| event.header.subject == victim).unwrap().clone());
    toy.poison.lock().unwrap().extend(bad.iter().map(|event| (event.header.aggregate_id, Poison::Code)));
    let engine = Engine::start(&world.config(), vec![toy.clone()]);
    world.produce(&events).await;
    world.wait_caught_up(&toy).await;
    assert_eq!(list(&world.read, NAME, 10).await.unwrap().len(), 2);
    for victim in victims {
        world.erase(victim).await;
    }
    // One is met by the running consumer, the other by a retry.
    let more = world.append_erased(&events, victims[0]).await;
    world.produce(&[more]).await;
    world.wait_caught_up(&toy).await;
    let left = list(&world.read, NAME, 10).await.unwrap();
    assert_eq!(left.iter().map(|parked| parked.subject).collect::<Vec<_>>(), [victims[1]]);
    let retried = world.retry(toy.clone()).subject(victims[1]).await.unwrap();
    assert_eq!(retried.stopped_at, None);
    assert_eq!(list(&world.read, NAME, 10).await.unwrap(), vec![]);
    assert!(victims.iter().all(|victim| toy.forgotten.lock().unwrap().contains(victim)));
    assert_same(&world.rows(&toy).await, &world.expected(|event| victims.contains(&event.header.subject)));
    engine.stop().await;
    world.gone().await;
}
