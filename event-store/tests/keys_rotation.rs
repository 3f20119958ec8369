//! Keys change while everything runs: what was sealed before stays readable, and what is sealed after is sealed anew.
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use common::{World, append, appended, event, eventually};
use nexus_event_store::keyring::rotate::{self, Pace};
use nexus_event_store::keyring::{KeyStatus, status};
use nexus_event_store::{Error, EventLog, KeyError, Keyring, MasterKey};
use serde_json::json;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// The keyring asks for changes at least so often.
const POLL: Duration = Duration::from_secs(1);
const ERASE: &str = "update subject_keys set state = 'erased', wrapped = null where subject = $1";

async fn erase(owner: &PgPool, subject: Uuid) {
    sqlx::query(ERASE).bind(subject).execute(owner).await.unwrap();
}

async fn is_erased(keyring: &Keyring, subject: Uuid) -> bool {
    matches!(keyring.key(subject).await, Err(KeyError::Erased))
}

async fn keys_of(owner: &PgPool, subject: Uuid) -> Vec<(Uuid, bool, String)> {
    sqlx::query_as("select key_id, current, state from subject_keys where subject = $1 order by created_at")
        .bind(subject)
        .fetch_all(owner)
        .await
        .unwrap()
}

/// Appends to one stream per subject and reads them all, from two processes, until it is told to stop. Any failure is a
/// panic, so that what passes was never interrupted.
struct Traffic {
    subjects: Vec<Uuid>,
    appends: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Traffic {
    async fn start(writing: EventLog, reading: EventLog) -> Self {
        let subjects: Vec<_> = (0..20).map(|_| Uuid::new_v4()).collect();
        for id in &subjects {
            appended(writing.append(append(vec![event("Patient", *id, 1, *id)])).await.unwrap());
        }
        let (appends, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let write = {
            let (subjects, appends, stop) = (subjects.clone(), appends.clone(), stop.clone());
            async move {
                for sequence in 2.. {
                    for id in &subjects {
                        appended(writing.append(append(vec![event("Patient", *id, sequence, *id)])).await.unwrap());
                        // New subjects get keys all the while, too.
                        appended(writing.append(common::registration()).await.unwrap());
                        appends.fetch_add(2, Ordering::Relaxed);
                    }
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
        };
        let read = {
            let (subjects, stop) = (subjects.clone(), stop.clone());
            async move {
                while !stop.load(Ordering::Relaxed) {
                    for id in &subjects {
                        assert!(!reading.stream("Patient", *id).await.unwrap().is_empty());
                    }
                }
            }
        };
        let tasks = vec![tokio::spawn(write), tokio::spawn(read)];
        Self { subjects, appends, stop, tasks }
    }

    async fn goes_on(&self) {
        let before = self.appends.load(Ordering::Relaxed);
        eventually("appends go on", || async { self.appends.load(Ordering::Relaxed) > before + 40 }).await;
    }

    /// Nothing failed, and a process that starts now reads everything.
    async fn finish(self, fresh: &EventLog) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        for id in &self.subjects {
            let events = fresh.stream("Patient", *id).await.unwrap();
            assert_eq!(events.last().unwrap().header.sequence, i64::try_from(events.len()).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_master_key_wraps_what_the_old_one_did() {
    let mut world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("master.key"), folder.path().join("new.key"));
    MasterKey::generate_file(&old).unwrap();
    MasterKey::generate_file(&new).unwrap();
    world.master = MasterKey::from_file(&old).unwrap();
    let traffic = Traffic::start(world.event_log().await, world.event_log().await).await;
    let blind = world.keyring().await.blind("mrn", "1");

    let to = MasterKey::from_file(&new).unwrap();
    let rotated = rotate::master(&world.keys_owner(), &world.master, &to).await.unwrap();
    assert_eq!((rotated.generations, rotated.secrets), (1, 1));
    traffic.goes_on().await;
    // A process that starts with the old file is told what it would need.
    let refused = Keyring::connect(world.keys_as("nexus_command"), world.master.clone()).await.err().unwrap();
    assert!(refused.to_string().contains(&rotated.wrapped_by), "{refused}");
    // Killed after the commit and run again: the result is the same.
    rotate::master(&world.keys_owner(), &world.master, &to).await.unwrap();
    // The new file in the old one's place: no process has to be told.
    std::fs::rename(&new, &old).unwrap();
    assert_eq!(world.keyring().await.blind("mrn", "1"), blind);
    let now = status(&world.keys_owner()).await.unwrap();
    assert_eq!(now.masters, [(rotated.wrapped_by, 2)].into());
    // Running processes learn of a generation that only the new master key unwraps.
    rotate::generation(&world.keys_owner(), &world.master, Pace::default(), |_| ()).await.unwrap();
    traffic.goes_on().await;
    traffic.finish(&world.event_log().await).await;
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_is_replaced_under_load_and_after_a_kill() {
    let world = World::new().await;
    let owner = world.keys_owner();
    let many: Vec<_> = (0..400).map(|_| Uuid::new_v4()).collect();
    world.keyring().await.ensure(&many).await.unwrap();
    let gone = many[7];
    erase(&owner, gone).await;
    let traffic = Traffic::start(world.event_log().await, world.event_log().await).await;

    // Slow enough to be killed in the middle.
    let pace = Pace { batch: 20, keys_per_second: 400 };
    let begun = {
        let (owner, master) = (owner.clone(), world.master.clone());
        tokio::spawn(async move { rotate::generation(&owner, &master, pace, |_| ()).await })
    };
    let moved = || async { under(&status(&world.keys_owner()).await.unwrap(), 2) };
    eventually("some keys are under the new generation", || async { moved().await >= 60 }).await;
    begun.abort();
    assert!(begun.await.unwrap_err().is_cancelled());
    let half_way = status(&owner).await.unwrap();
    assert!(under(&half_way, 1) > 100 && under(&half_way, 2) >= 60, "{half_way:?}");
    traffic.goes_on().await;

    let mut seen = 0;
    let rotated = rotate::generation(&owner, &world.master, Pace::default(), |now| seen = now.keys).await.unwrap();
    assert!(rotated.resumed && rotated.generation == 2 && rotated.left_behind == 0, "{rotated:?}");
    assert_eq!(seen, rotated.rewrapped);
    traffic.goes_on().await;
    let now = status(&owner).await.unwrap();
    assert_eq!(under(&now, 1), 0, "new keys are under the new generation in every process");
    assert_eq!(now.subjects_erased, 1);
    let fresh = world.event_log().await;
    assert_eq!(fresh.keyring().key(gone).await.unwrap_err(), KeyError::Erased);
    for subject in many.iter().filter(|subject| **subject != gone) {
        fresh.keyring().key(*subject).await.unwrap();
    }
    traffic.finish(&fresh).await;

    let next = rotate::generation(&owner, &world.master, Pace::default(), |_| ()).await.unwrap();
    assert!(!next.resumed && next.generation == 3, "{next:?}");
    world.drop().await;
}

fn under(status: &KeyStatus, generation: i32) -> i64 {
    status.generations.iter().filter(|it| it.id == generation).map(|it| it.keys_current + it.keys_retired).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_subjects_key_is_replaced_under_load() {
    let world = World::new().await;
    let owner = world.keys_owner();
    let (writing, reading) = (world.event_log().await, world.event_log().await);
    let traffic = Traffic::start(writing.clone(), reading.clone()).await;
    let id = traffic.subjects[3];
    let old = writing.keyring().key(id).await.unwrap();
    let row = writing.keyring().seal_row(&old, "chart/problems/1", b"row");
    writing.save_snapshot(id, "Patient", id, 1, &json!({"at": 1})).await.unwrap();

    let new_id = rotate::subject(&owner, &world.master, id).await.unwrap();
    assert_ne!(new_id, old.id());
    eventually("a running process seals with the new key", || async {
        let events = reading.stream("Patient", id).await.unwrap();
        events.last().unwrap().header.key_id == new_id
    })
    .await;
    let events = reading.stream("Patient", id).await.unwrap();
    assert_eq!(events[0].header.key_id, old.id(), "old events stay as they are, and open");
    for keyring in [reading.keyring(), world.event_log().await.keyring()] {
        let key = keyring.key(id).await.unwrap();
        assert_eq!(key.id(), new_id);
        assert_eq!(keyring.open_row(&key, "chart/problems/1", &row).unwrap(), b"row");
        let newer = keyring.seal_row(&key, "chart/problems/1", b"row");
        assert_eq!(keyring.open_row(&key, "chart/problems/1", &newer).unwrap(), b"row");
        assert!(keyring.open_row(&old, "chart/problems/1", &newer).is_err(), "the old key does not open the new row");
    }
    assert_eq!(reading.load_snapshot(id, "Patient", id).await.unwrap(), Some((1, json!({"at": 1}))));
    let now = status(&owner).await.unwrap();
    assert_eq!(now.keys_retired, 1);

    // The retired key moves to a new generation like the others.
    rotate::generation(&owner, &world.master, Pace::default(), |_| ()).await.unwrap();
    traffic.finish(&world.event_log().await).await;
    let never = rotate::subject(&owner, &world.master, Uuid::new_v4()).await.unwrap_err();
    assert!(matches!(never, Error::Key { source: KeyError::NeverHadOne, .. }), "{never:?}");
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn erasing_takes_every_key_of_a_subject_whatever_happens_at_the_same_moment() {
    let world = World::new().await;
    let owner = world.keys_owner();
    let keyring = world.keyring().await;
    let subjects: Vec<_> = (0..30).map(|_| Uuid::new_v4()).collect();
    keyring.ensure(&subjects).await.unwrap();
    for subject in &subjects {
        let rotating = {
            let (owner, master, subject) = (owner.clone(), world.master.clone(), *subject);
            tokio::spawn(async move { rotate::subject(&owner, &master, subject).await })
        };
        erase(&owner, *subject).await;
        drop(rotating.await.unwrap());
        let left = keys_of(&owner, *subject).await;
        assert!(left.iter().all(|(_, _, state)| state == "erased"), "{left:?}");
        let refused = rotate::subject(&owner, &world.master, *subject).await.unwrap_err();
        assert!(matches!(refused, Error::Key { source: KeyError::Erased, .. }), "{refused:?}");
        let statement = "update subject_keys set current = not current where subject = $1";
        assert!(sqlx::query(statement).bind(subject).execute(&owner).await.is_err());
        for current in [true, false] {
            let add = "insert into subject_keys (subject, key_id, generation, wrapped, current) values ($1, $2, 1, '\\x00', $3)";
            let added = sqlx::query(add).bind(subject).bind(Uuid::new_v4()).bind(current).execute(&owner).await;
            assert!(added.is_err(), "an erased subject was given a key");
        }
    }
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_erases_or_replaces_leaves_the_memory_of_the_others() {
    let world = World::new().await;
    let owner = world.keys_owner();
    let (one, other) = (world.keyring().await, world.keyring().await);
    let (erased, replaced, untouched) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    one.ensure(&[erased, replaced, untouched]).await.unwrap();
    let mark = other.changed_since(None).await.unwrap().mark;
    let before = other.key(replaced).await.unwrap();
    for subject in [erased, untouched] {
        other.key(subject).await.unwrap();
    }
    let told = Arc::new(AtomicI64::new(0));
    other.on_changed({
        let told = told.clone();
        move || {
            told.fetch_add(1, Ordering::Relaxed);
        }
    });

    // The transaction with the lower number commits last: a counter would miss it.
    let mut early = owner.begin().await.unwrap();
    sqlx::query(ERASE).bind(erased).execute(&mut *early).await.unwrap();
    let new_id = rotate::subject(&owner, &world.master, replaced).await.unwrap();
    eventually("the replaced key is noticed", || async { other.key(replaced).await.unwrap().id() == new_id }).await;
    let between = other.changed_since(Some(&mark)).await.unwrap();
    assert_eq!(between.subjects, [replaced]);
    early.commit().await.unwrap();
    eventually("the erasure is noticed", || async { is_erased(&other, erased).await }).await;
    let after = other.changed_since(Some(&between.mark)).await.unwrap();
    assert!(after.subjects.contains(&erased) && !after.subjects.contains(&untouched), "{after:?}");
    assert!(told.load(Ordering::Relaxed) >= 2);
    assert_ne!(before.id(), new_id);
    assert_eq!(one.key(erased).await.unwrap_err(), KeyError::Erased);
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seals_are_counted_and_a_worn_key_is_replaced_before_the_next_append() {
    let world = World::new().await;
    let owner = world.keys_owner();
    let log = world.event_log().await;
    let id = Uuid::new_v4();
    appended(log.append(append(vec![event("Patient", id, 1, id)])).await.unwrap());
    let key = log.keyring().key(id).await.unwrap();
    const SEALS: i64 = 40_000;
    for _ in 0..SEALS {
        log.keyring().seal_row(&key, "chart/problems/1", b"row");
    }
    // One in 1,024 is counted as 1,024: 39 ± 6 samples, so that less than half or more than double does not happen.
    eventually("the count is stored", || async {
        let counted = status(&owner).await.unwrap().seals_most;
        assert!(counted < 2 * SEALS, "{counted} counted of {SEALS}");
        counted > SEALS / 2
    })
    .await;

    sqlx::query("update key_uses set seals = (1::bigint << 31) where key_id = $1")
        .bind(key.id())
        .execute(&owner)
        .await
        .unwrap();
    assert_eq!(status(&owner).await.unwrap().keys_worn, 1);
    // The role of the write door is enough to replace it.
    let fresh = world.event_log().await;
    appended(fresh.append(append(vec![event("Patient", id, 2, id)])).await.unwrap());
    let events = fresh.stream("Patient", id).await.unwrap();
    assert_eq!(events[0].header.key_id, key.id());
    assert_ne!(events[1].header.key_id, key.id());
    let now = status(&owner).await.unwrap();
    assert_eq!((now.keys_worn, now.keys_retired), (0, 1));
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_has_wrapped_enough_wraps_no_more() {
    let world = World::new().await;
    let owner = world.keys_owner();
    let keyring = world.keyring().await;
    keyring.ensure(&[Uuid::new_v4()]).await.unwrap();
    let reserved = status(&owner).await.unwrap().generations[0].wraps_reserved;
    assert!(reserved > 0, "wraps are reserved before they are made");
    let full = "update generations set wraps_reserved = (1::bigint << 32)";
    sqlx::query(full).execute(&owner).await.unwrap();
    let fresh = world.keyring().await;
    assert!(fresh.ensure(&[Uuid::new_v4()]).await.is_err());
    rotate::generation(&owner, &world.master, Pace::default(), |_| ()).await.unwrap();
    let ensured = || async { fresh.ensure(&[Uuid::new_v4()]).await.is_ok() };
    eventually("a running process wraps under the new generation", ensured).await;
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_store_that_was_away_is_read_anew() {
    let world = World::new().await;
    let owner = world.keys_owner();
    let keyring = world.keyring().await;
    let subject = Uuid::new_v4();
    keyring.ensure(&[subject]).await.unwrap();
    keyring.key(subject).await.unwrap();
    // As after a restore: the row says erased, and no change tells of it.
    let mut connection = owner.acquire().await.unwrap();
    sqlx::query("set session_replication_role = replica").execute(&mut *connection).await.unwrap();
    sqlx::query(ERASE).bind(subject).execute(&mut *connection).await.unwrap();
    assert!(!is_erased(&keyring, subject).await, "nothing was told");
    let hidden: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()").fetch_one(&owner).await.unwrap();
    sqlx::query("alter table key_changes rename to hidden").execute(&owner).await.unwrap();
    eventually("the keyring asks in vain", || async {
        let asked = "select coalesce(bool_or(query_start > $1), false) from pg_stat_activity
                     where datname = current_database() and usename = 'nexus_command' and query like '%key_changes%'";
        sqlx::query_scalar(asked).bind(hidden + POLL).fetch_one(&owner).await.unwrap()
    })
    .await;
    sqlx::query("alter table hidden rename to key_changes").execute(&owner).await.unwrap();
    eventually("the keys are read anew", || async { is_erased(&keyring, subject).await }).await;
    world.drop().await;
}

/// Run with `--ignored --nocapture`; the figures are in docs/adr/0009.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn how_fast_keys_are_wrapped_anew() {
    const KEYS: u64 = 50_000;
    let world = World::new().await;
    let (owner, keyring) = (world.keys_owner(), world.keyring().await);
    for _ in 0..KEYS / 5_000 {
        keyring.ensure(&(0..5_000).map(|_| Uuid::new_v4()).collect::<Vec<_>>()).await.unwrap();
    }
    let started = std::time::Instant::now();
    let mut finished = started;
    let pace = Pace { keys_per_second: u32::MAX, ..Pace::default() };
    rotate::generation(&owner, &world.master, pace, |_| finished = std::time::Instant::now()).await.unwrap();
    println!("{KEYS} keys wrapped anew in {:?}", finished - started);
    let started = std::time::Instant::now();
    rotate::master(&owner, &world.master, &MasterKey::random()).await.unwrap();
    println!("the master key replaced in {:?}", started.elapsed());
    let started = std::time::Instant::now();
    status(&owner).await.unwrap();
    println!("the status of {KEYS} keys in {:?}", started.elapsed());
    let mark = keyring.changed_since(None).await.unwrap().mark;
    let started = std::time::Instant::now();
    for _ in 0..100 {
        keyring.changed_since(Some(&mark)).await.unwrap();
    }
    println!("a question for changes takes {:?}", started.elapsed() / 100);
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn how_soon_an_erasure_is_noticed() {
    let world = World::new().await;
    let (owner, keyring) = (world.keys_owner(), world.keyring().await);
    let mut times = Vec::new();
    for _ in 0..20 {
        let subject = Uuid::new_v4();
        keyring.ensure(&[subject]).await.unwrap();
        erase(&owner, subject).await;
        let started = std::time::Instant::now();
        eventually("the erasure is noticed", || async { is_erased(&keyring, subject).await }).await;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    println!("noticed after {:?} (median), {:?} (at most)", times[10], times[19]);
    world.drop().await;
}
