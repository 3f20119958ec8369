//! Erasure in the log and in the key store: nothing follows it, nothing comes back.
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{World, append, appended, event, eventually, registration, take};
use nexus_event_store::{
    Append, ERASED, Erasure, Error, EventLog, KeyError, Keyring, SNAPSHOT_EVERY, event_id, partition_of,
};
use serde_json::json;
use sqlx::Executor;
use uuid::Uuid;

/// The append that erases a patient whose stream stands at this sequence.
fn erasing(subject: Uuid, sequence: i64) -> Append {
    let mut last = event("Patient", subject, sequence + 1, subject);
    last.event_type = ERASED.to_owned();
    append(vec![last])
}

async fn decided(log: &EventLog, subject: Uuid) -> Erasure {
    let event = log.erasure_of(subject).await.unwrap().unwrap();
    let removed = log.forget_subject(subject).await.unwrap();
    Erasure {
        subject,
        key_id: event.header.key_id,
        event_id: event_id("Patient", subject, event.header.sequence),
        partition: event.partition,
        position: event.position,
        requested_by: Some("registrar".to_owned()),
        requested_at: Some(chrono::Utc::now()),
        approved_by: Some("auditor".to_owned()),
        approved_at: Some(chrono::Utc::now()),
        snapshots: removed.snapshots,
        claims: removed.claims,
    }
}

fn is_erased(error: &Error, of: Uuid) -> bool {
    matches!(error, Error::Key { subject, source: KeyError::Erased } if *subject == of)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_follows_an_erasure_whoever_has_the_key_in_memory() {
    let world = World::new().await;
    let (log, other) = (world.event_log().await, world.event_log().await);
    let id = Uuid::new_v4();
    appended(log.append(append(vec![event("Patient", id, 1, id)])).await.unwrap());
    // The other process has the key, and keeps it.
    appended(other.append(append(vec![event("Condition", Uuid::new_v4(), 1, id)])).await.unwrap());
    appended(log.append(erasing(id, 1)).await.unwrap());
    for (log, stream) in [(&log, Uuid::new_v4()), (&other, Uuid::new_v4())] {
        let refused = log.append(append(vec![event("Condition", stream, 1, id)])).await.unwrap_err();
        assert!(is_erased(&refused, id), "{refused:?}");
    }
    let refused = other.append(erasing(id, 2)).await.unwrap_err();
    assert!(is_erased(&refused, id), "{refused:?}");
    // Neighbours in the same batch are not disturbed.
    let (with, without) = tokio::join!(
        other.append(append(vec![event("Condition", Uuid::new_v4(), 1, id)])),
        other.append(registration())
    );
    assert!(is_erased(&with.unwrap_err(), id));
    appended(without.unwrap());
    world.drop().await;
}

/// Two processes append about many subjects as fast as they can while those are erased one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_appends_come_in_the_erasing_event_is_the_last() {
    const SUBJECTS: usize = 20;
    let world = World::new().await;
    let subjects: Vec<Uuid> = (0..SUBJECTS).map(|_| Uuid::new_v4()).collect();
    let logs = [world.event_log().await, world.event_log().await];
    for id in &subjects {
        appended(logs[0].append(append(vec![event("Patient", *id, 1, *id)])).await.unwrap());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let (log, subjects, stop) = (logs[number % 2].clone(), subjects.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut taken, mut refused) = (0, 0);
                for at in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let subject = subjects[at * 7 % subjects.len()];
                    match log.append(append(vec![event("Condition", Uuid::new_v4(), 1, subject)])).await {
                        Ok(outcome) => drop(appended(outcome)),
                        Err(error) if is_erased(&error, subject) => refused += 1,
                        Err(error) => panic!("{error:?}"),
                    }
                    taken += 1;
                }
                (taken, refused)
            })
        })
        .collect();
    for id in &subjects[..SUBJECTS / 2] {
        appended(logs[1].append(erasing(*id, 1)).await.unwrap());
        let erasure = decided(&logs[1], *id).await;
        logs[1].keyring().erase(&erasure).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let (mut taken, mut refused) = (0, 0);
    for writer in writers {
        let (of_it, refused_of_it) = writer.await.unwrap();
        (taken, refused) = (taken + of_it, refused + refused_of_it);
    }
    assert!(taken > 100 && refused > 0, "{taken} appends, {refused} refused: nothing was shown");
    for events in world.everything().await {
        let mut erased = HashSet::new();
        for event in events {
            assert!(!erased.contains(&event.header.subject), "an event follows the erasure of its subject");
            if event.header.event_type == ERASED {
                erased.insert(event.header.subject);
            }
        }
    }
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_and_claims_go_and_none_are_kept_later() {
    let world = World::new().await;
    let log = world.event_log().await;
    let (id, other) = (Uuid::new_v4(), Uuid::new_v4());
    for subject in [id, other] {
        let mut first = append(vec![event("Patient", subject, 1, subject)]);
        first.take = vec![take("mrn", &subject.to_string(), subject)];
        appended(log.append(first).await.unwrap());
        log.save_snapshot(subject, "Patient", subject, 1, &json!({"at": SNAPSHOT_EVERY})).await.unwrap();
    }
    let unerased = log.forget_subject(id).await;
    assert!(unerased.is_err(), "what was not erased is not forgotten");
    appended(log.append(erasing(id, 1)).await.unwrap());
    assert_eq!(log.erased_subjects(Uuid::nil(), 10).await.unwrap().iter().filter(|it| !it.forgotten).count(), 1);
    for _ in 0..2 {
        let removed = log.forget_subject(id).await.unwrap();
        assert_eq!((removed.snapshots, removed.claims), (1, 1), "counted once, told each time");
    }
    assert_eq!(log.erased_subjects(Uuid::nil(), 10).await.unwrap().iter().filter(|it| it.forgotten).count(), 1);
    // The key is still there and a writer of snapshots is late.
    log.save_snapshot(id, "Patient", id, 2, &json!({"late": true})).await.unwrap();
    let left: Vec<String> =
        sqlx::query_scalar("select aggregate_id from snapshots").fetch_all(&world.owner()).await.unwrap();
    assert_eq!(left, [other.to_string()]);
    let mut again = registration();
    again.take = vec![take("mrn", &id.to_string(), again.events[0].aggregate_id)];
    appended(log.append(again).await.unwrap());
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_key_is_written_down_and_does_not_come_back_with_a_backup() {
    let world = World::new().await;
    let log = world.event_log().await;
    let (id, unknown) = (Uuid::new_v4(), Uuid::new_v4());
    appended(log.append(append(vec![event("Patient", id, 1, id)])).await.unwrap());
    // A backup of the key store from before the erasure; of `unknown` it is so old that it knows nothing.
    let owner = world.keys_owner();
    owner.execute("create table backup as select * from subject_keys").await.unwrap();
    appended(log.append(append(vec![event("Patient", unknown, 1, unknown)])).await.unwrap());
    for subject in [id, unknown] {
        appended(log.append(erasing(subject, 1)).await.unwrap());
        let erasure = decided(&log, subject).await;
        log.keyring().erase(&erasure).await.unwrap();
        log.keyring().erase(&erasure).await.unwrap();
    }
    let (first, as_written) = log.keyring().erasure(id).await.unwrap().unwrap();
    assert!(as_written);
    assert_eq!((first.approved_by.as_deref(), first.fingerprints[0].len()), (Some("auditor"), 32));
    let gone: bool = sqlx::query_scalar("select bool_and(wrapped is null and state = 'erased') from subject_keys")
        .fetch_one(&owner)
        .await
        .unwrap();
    assert!(gone);
    for change in ["update erasures set approved_by = 'nobody'", "delete from erasures", "truncate erasures"] {
        assert!(owner.execute(change).await.is_err(), "{change}");
    }

    let restore = "set session_replication_role = replica; delete from erasures; delete from subject_keys;
        insert into subject_keys select * from backup; set session_replication_role = default";
    owner.execute(restore).await.unwrap();
    let fresh = world.event_log().await;
    fresh.keyring().key(id).await.unwrap();
    assert_eq!(fresh.keyring().key(unknown).await.unwrap_err(), KeyError::NeverHadOne);
    assert_eq!(fresh.keyring().not_erased(&[id, unknown]).await.unwrap().len(), 2);
    for subject in [id, unknown] {
        fresh.keyring().erase(&decided(&fresh, subject).await).await.unwrap();
        assert_eq!(fresh.keyring().key(subject).await.unwrap_err(), KeyError::Erased);
        let refused = fresh.keyring().ensure(&[subject]).await.unwrap_err();
        assert!(is_erased(&refused, subject));
    }
    assert!(fresh.keyring().not_erased(&[id, unknown]).await.unwrap().is_empty());
    let (second, _) = fresh.keyring().erasure(id).await.unwrap().unwrap();
    assert_eq!(second.fingerprints, first.fingerprints, "the same key was destroyed once more");
    assert_eq!(fresh.keyring().erasure(unknown).await.unwrap().unwrap().0.fingerprints, Vec::<Vec<u8>>::new());

    let forged = "set session_replication_role = replica; update erasures set approved_by = 'nobody'";
    owner.execute(forged).await.unwrap();
    assert!(!fresh.keyring().erasure(id).await.unwrap().unwrap().1, "a record that was changed is recognised");
    world.drop().await;
}

/// The fence is an event, so it comes back with the events.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_tail_has_the_fence_again() {
    let world = World::new().await;
    let log = world.event_log().await;
    let relay = world.relay();
    let id = Uuid::new_v4();
    appended(log.append(append(vec![event("Patient", id, 1, id)])).await.unwrap());
    let receipt = appended(log.append(erasing(id, 1)).await.unwrap());
    assert!(log.wait_published(&receipt.positions, common::DEADLINE).await.unwrap());
    relay.stop().await;
    let partition = partition_of(id, common::PARTITIONS);
    let lose = format!(
        "set session_replication_role = replica;
         delete from events where partition = {partition} and position > 1;
         update heads set position = 1 where partition = {partition};
         update relay_progress set position = 0"
    );
    world.owner().execute(lose.as_str()).await.unwrap();
    drop(log);
    let log = world.event_log().await;
    assert!(!log.ready().await, "Kafka is ahead");
    let relay = world.relay();
    eventually("the tail is back", || log.ready()).await;
    assert!(log.erasure_of(id).await.unwrap().is_some());
    let refused = log.append(append(vec![event("Condition", Uuid::new_v4(), 1, id)])).await.unwrap_err();
    assert!(is_erased(&refused, id), "{refused:?}");
    relay.stop().await;
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_signed_by_the_installation() {
    let (world, elsewhere) = (World::new().await, World::new().await);
    let (keyring, other): (Keyring, Keyring) = (world.keyring().await, world.keyring().await);
    let receipt = json!({"subject": Uuid::nil(), "position": 7});
    let signed = keyring.sign_receipt(&receipt);
    assert_eq!(other.verify_receipt(&signed), Some(receipt.clone()), "any process of the installation");
    assert_eq!(keyring.receipt_keys(), other.receipt_keys());
    assert_eq!(elsewhere.keyring().await.verify_receipt(&signed), None);
    let mut parts: Vec<&str> = signed.split('.').collect();
    let forged = keyring.sign_receipt(&json!({"subject": Uuid::nil(), "position": 8}));
    parts[1] = forged.split('.').nth(1).unwrap();
    assert_eq!(keyring.verify_receipt(&parts.join(".")), None);
    assert_eq!(keyring.verify_receipt("a.b.c"), None);
    world.drop().await;
    elsewhere.drop().await;
}
