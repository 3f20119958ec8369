//! The append against a real Postgres: each outcome, and what holds when many write at once.
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod common;

use std::sync::Arc;

use common::{World, append, appended, claim, event, key, registration, release, take};
use nexus_event_store::{Error, EventLog, Expectation, Outcome, partition_of};
use serde_json::json;
use serde_json::value::to_raw_value;
use uuid::Uuid;

async fn all(calls: impl IntoIterator<Item = (EventLog, nexus_event_store::Append)>) -> Vec<Result<Outcome, Error>> {
    let tasks: Vec<_> =
        calls.into_iter().map(|(log, append)| tokio::spawn(async move { log.append(append).await })).collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_have_no_gap_under_many_writers() {
    let world = World::new().await;
    let logs = [world.event_log().await, world.event_log().await, world.event_log().await];
    let writers: Vec<_> = (0..32)
        .map(|writer| {
            let log = logs[writer % logs.len()].clone();
            tokio::spawn(async move {
                let (id, mut positions) = (Uuid::new_v4(), Vec::new());
                for sequence in 1..=25 {
                    // Every fifth command is refused, so that refusals lie between accepted ones.
                    if sequence % 5 == 0 {
                        let stale = append(vec![event("Patient", id, 1, id)]);
                        assert!(matches!(log.append(stale).await.unwrap(), Outcome::Conflict { .. }));
                    }
                    let receipt = appended(log.append(append(vec![event("Patient", id, sequence, id)])).await.unwrap());
                    positions.extend(receipt.positions);
                }
                assert!(positions.is_sorted(), "one stream moves forward only");
                positions
            })
        })
        .collect();
    let mut receipts = Vec::new();
    for writer in writers {
        receipts.extend(writer.await.unwrap());
    }
    let stored = world.everything().await;
    assert_eq!(stored.iter().map(Vec::len).sum::<usize>(), 32 * 25);
    receipts.sort_unstable();
    let mut expected: Vec<_> = stored.iter().flatten().map(|event| (event.partition, event.position)).collect();
    expected.sort_unstable();
    assert_eq!(receipts, expected, "each receipt names its own event");
    let heads = logs[0].heads().await.unwrap();
    let lengths = (0..).zip(stored.iter().map(|events| i64::try_from(events.len()).unwrap()));
    assert_eq!(heads, lengths.collect::<Vec<_>>());
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reads_back_as_it_was_written() {
    let world = World::new().await;
    let log = world.event_log().await;
    let id = Uuid::new_v4();
    let mut two = append(vec![event("Patient", id, 1, id), event("Patient", id, 2, id)]);
    two.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    let receipt = appended(log.append(two.clone()).await.unwrap());
    let partition = partition_of(id, common::PARTITIONS);
    assert_eq!(receipt.positions, [(partition, 2)]);

    let events = log.stream("Patient", id).await.unwrap();
    assert_eq!(events.len(), 2);
    for (stored, new) in events.iter().zip(&two.events) {
        assert_eq!(stored.payload.to_string(), new.payload.get());
        assert_eq!(stored.metadata, two.metadata);
        assert_eq!(stored.header.traceparent, two.traceparent);
        assert_eq!(stored.header.recorded_at, receipt.recorded_at);
        assert_eq!((stored.partition, stored.position), (partition, new.sequence));
    }
    assert_eq!(log.stream_after("Patient", id, 1).await.unwrap(), events[1..]);
    assert_eq!(log.subject_of("Patient", id).await.unwrap(), Some(id));
    assert_eq!(log.subject_of("Consent", id).await.unwrap(), None);
    let asked = [("Patient".into(), id), ("Patient".into(), Uuid::new_v4()), ("Patient".into(), id)];
    let streams = log.streams(&asked).await.unwrap();
    assert_eq!(streams.len(), 1);
    assert_eq!(streams[&("Patient".to_owned(), id)], events);
    assert_eq!(log.subject_streams(id, "Patient").await.unwrap(), (events, 2));
    assert_eq!(log.subject_streams(id, "Allergy").await.unwrap(), (vec![], 2));
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_stream_is_a_conflict_and_its_neighbours_go_on() {
    let world = World::new().await;
    let log = world.event_log().await;
    let id = Uuid::new_v4();
    appended(log.append(append(vec![event("Patient", id, 1, id)])).await.unwrap());
    let mut calls = Vec::new();
    for number in 0..60 {
        let append = if number % 3 == 0 { append(vec![event("Patient", id, 1, id)]) } else { registration() };
        calls.push((log.clone(), append));
    }
    let outcomes = all(calls).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match outcome.unwrap() {
            Outcome::Conflict { aggregate_type, aggregate_id_or_subject } if number % 3 == 0 => {
                assert_eq!((aggregate_type.as_str(), aggregate_id_or_subject), ("Patient", id));
            }
            outcome => drop(appended(outcome)),
        }
    }
    assert_eq!(world.everything().await.iter().map(Vec::len).sum::<usize>(), 41);
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_aggregate_id_under_two_subjects_is_accepted_once() {
    let world = World::new().await;
    let logs = [world.event_log().await, world.event_log().await];
    for _ in 0..20 {
        let id = Uuid::new_v4();
        let calls =
            (0..8).map(|number| (logs[number % 2].clone(), append(vec![event("Observation", id, 1, Uuid::new_v4())])));
        let neighbours = (0..8).map(|number| (logs[number % 2].clone(), registration()));
        let outcomes = all(calls.chain(neighbours)).await;
        let (same, others) = outcomes.split_at(8);
        let accepted = same.iter().filter(|outcome| matches!(outcome, Ok(Outcome::Appended(_)))).count();
        let refused = same.iter().filter(|outcome| matches!(outcome, Ok(Outcome::Conflict { .. }))).count();
        assert_eq!((accepted, refused), (1, 7));
        assert!(others.iter().all(|outcome| matches!(outcome, Ok(Outcome::Appended(_)))));
    }
    world.everything().await;
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_registrations_with_one_number_one_wins() {
    let world = World::new().await;
    let logs = [world.event_log().await, world.event_log().await, world.event_log().await];
    let calls = (0..64).map(|number| {
        let mut append = registration();
        let id = append.events[0].aggregate_id;
        // The second claim must not stay behind when the first is refused.
        append.take = vec![take("mrn", "M-1", id), take("email", &format!("a{number}"), id)];
        append.idempotency = Some(key(&format!("k{number}"), 1));
        (logs[number % logs.len()].clone(), append)
    });
    let outcomes = all(calls).await;
    let winners: Vec<_> = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Outcome::Appended(_)))).collect();
    assert_eq!(winners.len(), 1);
    let (holder_type, holder) = logs[0].holder(&claim("mrn", "M-1")).await.unwrap().unwrap();
    assert_eq!(holder_type, "Patient");
    for outcome in &outcomes {
        match outcome.as_ref().unwrap() {
            Outcome::Appended(_) => {}
            Outcome::ClaimTaken { kind, index, holder_type, holder_id } => {
                assert_eq!((kind.as_str(), *index, holder_type.as_str(), *holder_id), ("mrn", 0, "Patient", holder));
            }
            other => panic!("{other:?}"),
        }
    }
    let emails: Vec<_> = (0..64).map(|number| claim("email", &format!("a{number}"))).collect();
    assert_eq!(logs[1].holders(&emails).await.unwrap().iter().flatten().count(), 1);
    assert_eq!(world.everything().await.iter().map(Vec::len).sum::<usize>(), 1);
    let remembered: i64 =
        sqlx::query_scalar("select count(*) from idempotency").fetch_one(&world.owner()).await.unwrap();
    assert_eq!(remembered, 1, "a refused command leaves no answer behind");
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_released_and_change_hands() {
    let world = World::new().await;
    let log = world.event_log().await;
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    let registered = |id: Uuid| append(vec![event("Patient", id, 1, id)]);
    let mut taking = registered(first);
    taking.take = vec![take("mrn", "M-1", first)];
    appended(log.append(taking).await.unwrap());

    let mut again = append(vec![event("Patient", first, 2, first)]);
    again.take = vec![take("mrn", "M-1", first)];
    appended(log.append(again).await.unwrap());

    // A refused command releases nothing.
    let mut refused = registered(first);
    refused.release = vec![release("mrn", "M-1", first)];
    assert!(matches!(log.append(refused).await.unwrap(), Outcome::Conflict { .. }));
    assert_eq!(log.holder(&claim("mrn", "M-1")).await.unwrap(), Some(("Patient".into(), first)));

    let mut moving = registered(second);
    moving.release = vec![release("mrn", "M-1", first)];
    moving.take = vec![take("mrn", "M-1", second)];
    appended(log.append(moving).await.unwrap());
    assert_eq!(log.holder(&claim("mrn", "M-1")).await.unwrap(), Some(("Patient".into(), second)));

    let mut releasing = append(vec![event("Patient", second, 2, second)]);
    releasing.release = vec![release("mrn", "M-1", second)];
    appended(log.append(releasing).await.unwrap());
    assert_eq!(log.holder(&claim("mrn", "M-1")).await.unwrap(), None);
    let stored: Vec<Vec<u8>> = sqlx::query_scalar("select claim from claims").fetch_all(&world.owner()).await.unwrap();
    assert!(stored.is_empty());
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_released_by_its_holder_only() {
    let world = World::new().await;
    let log = world.event_log().await;
    let (holder, other) = (Uuid::new_v4(), Uuid::new_v4());
    let mut taking = append(vec![event("Patient", holder, 1, holder)]);
    taking.take = vec![take("mrn", "M-1", holder)];
    appended(log.append(taking).await.unwrap());
    let held = Some(("Patient".to_owned(), holder));

    let mut releasing = append(vec![event("Patient", other, 1, other)]);
    releasing.release = vec![release("mrn", "M-1", other)];
    appended(log.append(releasing).await.unwrap());
    assert_eq!(log.holder(&claim("mrn", "M-1")).await.unwrap(), held);

    // Nor does saying that one gives it up help to get it.
    let mut moving = append(vec![event("Patient", other, 2, other)]);
    moving.release = vec![release("mrn", "M-1", other)];
    moving.take = vec![take("mrn", "M-1", other), take("mrn", "M-2", other)];
    let taken = Outcome::ClaimTaken { kind: "mrn".into(), index: 0, holder_type: "Patient".into(), holder_id: holder };
    assert_eq!(log.append(moving).await.unwrap(), taken);
    assert_eq!(log.holder(&claim("mrn", "M-1")).await.unwrap(), held);
    assert_eq!(log.holder(&claim("mrn", "M-2")).await.unwrap(), None);

    // What is free, or one's own already, can be released by anybody and taken.
    let mut own = append(vec![event("Patient", holder, 2, holder)]);
    own.release = vec![release("mrn", "M-1", other), release("mrn", "M-3", other)];
    own.take = vec![take("mrn", "M-1", holder), take("mrn", "M-3", holder)];
    appended(log.append(own).await.unwrap());
    assert_eq!(log.holders(&[claim("mrn", "M-1"), claim("mrn", "M-3")]).await.unwrap(), [held.clone(), held]);
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_fingerprint_does_not_tell_the_request() {
    let world = World::new().await;
    let log = world.event_log().await;
    for name in ["k1", "k2"] {
        let mut request = registration();
        request.idempotency = Some(key(name, 1));
        appended(log.append(request).await.unwrap());
    }
    let stored: Vec<Vec<u8>> =
        sqlx::query_scalar("select fingerprint from idempotency").fetch_all(&world.owner()).await.unwrap();
    assert!(stored.iter().all(|stored| *stored != [1; 32]), "whoever guesses the request could check the guess");
    assert_ne!(stored[0], stored[1], "nor can two requests be seen to be the same");
    assert!(log.recall(&key("k1", 1)).await.unwrap().unwrap().0);
    assert!(!log.recall(&key("k1", 2)).await.unwrap().unwrap().0);
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_first_answer_wherever_it_asks() {
    let world = World::new().await;
    let logs = [world.event_log().await, world.event_log().await];
    let request = |number: u8, fingerprint| {
        // The server makes a new id on each try, so that retries meet in different partitions.
        let mut append = registration();
        append.idempotency = Some(key("same", fingerprint));
        append.response = json!({"try": number});
        append
    };
    let outcomes = all((0..64).map(|number| (logs[usize::from(number) % 2].clone(), request(number, 1)))).await;
    let mut answers = Vec::new();
    let mut first = None;
    for (number, outcome) in (0..).zip(outcomes) {
        match outcome.unwrap() {
            Outcome::Appended(receipt) => {
                assert_eq!(first, None, "one event, however often it is asked for");
                first = Some((receipt, json!({"try": number})));
            }
            Outcome::Duplicate { same_request: true, receipt, response } => answers.push((receipt, response)),
            other => panic!("{other:?}"),
        }
    }
    let first = first.unwrap();
    assert_eq!(answers.len(), 63);
    assert!(answers.iter().all(|answer| *answer == first));
    assert_eq!(world.everything().await.iter().map(Vec::len).sum::<usize>(), 1);

    let other = logs[1].append(request(99, 2)).await.unwrap();
    assert_eq!(other, Outcome::Duplicate { same_request: false, receipt: first.0.clone(), response: first.1.clone() });
    let (receipt, response) = first;
    assert_eq!(logs[0].recall(&key("same", 1)).await.unwrap(), Some((true, receipt.clone(), response.clone())));
    assert_eq!(logs[0].recall(&key("same", 2)).await.unwrap(), Some((false, receipt, response)));
    assert_eq!(logs[0].recall(&key("never", 1)).await.unwrap(), None);
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_a_duplicate_even_when_its_stream_has_moved_on() {
    let world = World::new().await;
    let log = world.event_log().await;
    let id = Uuid::new_v4();
    let mut request = append(vec![event("Patient", id, 1, id)]);
    request.idempotency = Some(key("k", 1));
    let receipt = appended(log.append(request.clone()).await.unwrap());
    appended(log.append(append(vec![event("Patient", id, 2, id)])).await.unwrap());
    let expected = Outcome::Duplicate { same_request: true, receipt, response: json!({"status": 201}) };
    assert_eq!(log.append(request).await.unwrap(), expected);
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_may_store_an_answer_without_events() {
    let world = World::new().await;
    let log = world.event_log().await;
    let mut nothing = append(vec![]);
    nothing.idempotency = Some(key("k", 1));
    let receipt = appended(log.append(nothing.clone()).await.unwrap());
    assert!(receipt.positions.is_empty());
    assert!(matches!(log.append(nothing).await.unwrap(), Outcome::Duplicate { same_request: true, .. }));
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_tail_holds_only_while_nothing_is_added() {
    let world = World::new().await;
    let log = world.event_log().await;
    let subject = Uuid::new_v4();
    appended(log.append(append(vec![event("Patient", subject, 1, subject)])).await.unwrap());
    let (allergies, tail) = log.subject_streams(subject, "Allergy").await.unwrap();
    assert_eq!((allergies.len(), tail), (0, 1));
    let prescribe = |tail| {
        let mut prescribe = append(vec![event("MedicationOrder", Uuid::new_v4(), 1, subject)]);
        let aggregate_type = "Allergy".into();
        prescribe.expect.push(Expectation::SubjectTail { subject, aggregate_type, position: tail });
        prescribe
    };
    // Other types of the subject do not move it.
    appended(log.append(prescribe(tail)).await.unwrap());
    appended(log.append(prescribe(tail)).await.unwrap());
    appended(log.append(append(vec![event("Allergy", Uuid::new_v4(), 1, subject)])).await.unwrap());
    let conflict = Outcome::Conflict { aggregate_type: "Allergy".into(), aggregate_id_or_subject: subject };
    assert_eq!(log.append(prescribe(tail)).await.unwrap(), conflict);
    let (allergies, tail) = log.subject_streams(subject, "Allergy").await.unwrap();
    assert_eq!((allergies.len(), tail), (1, 4));
    appended(log.append(prescribe(tail)).await.unwrap());
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_allergy_and_a_prescription_at_once_one_is_first() {
    let world = World::new().await;
    let logs = [world.event_log().await, world.event_log().await];
    for round in 0..30 {
        let subject = Uuid::new_v4();
        let mut prescribe = append(vec![event("MedicationOrder", Uuid::new_v4(), 1, subject)]);
        let aggregate_type = "Allergy".into();
        prescribe.expect.push(Expectation::SubjectTail { subject, aggregate_type, position: 0 });
        let allergy = append(vec![event("Allergy", Uuid::new_v4(), 1, subject)]);
        // From two processes, or from one, where both wait for the same batch behind a first append.
        let calls =
            [(logs[0].clone(), registration()), (logs[0].clone(), allergy), (logs[round % 2].clone(), prescribe)];
        let outcomes = all(calls).await;
        appended(outcomes[1].as_ref().unwrap().clone());
        let events = world.everything().await;
        let of_subject: Vec<_> = events
            .iter()
            .flatten()
            .filter(|event| event.header.subject == subject)
            .map(|event| event.header.aggregate_type.as_str())
            .collect();
        match outcomes[2].as_ref().unwrap() {
            Outcome::Appended(_) => assert_eq!(of_subject, ["MedicationOrder", "Allergy"]),
            Outcome::Conflict { .. } => assert_eq!(of_subject, ["Allergy"]),
            other => panic!("{other:?}"),
        }
    }
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_over_many_partitions_is_all_or_nothing() {
    let world = World::new().await;
    let log = world.event_log().await;
    let bundle = || {
        let mut events = Vec::new();
        for _ in 0..40 {
            let (subject, id) = (Uuid::new_v4(), Uuid::new_v4());
            events.extend([event("Patient", subject, 1, subject), event("Observation", id, 1, subject)]);
        }
        append(events)
    };
    let receipt = appended(log.append(bundle()).await.unwrap());
    assert_eq!(receipt.positions, log.heads().await.unwrap().into_iter().filter(|head| head.1 > 0).collect::<Vec<_>>());
    assert!(receipt.positions.is_sorted() && receipt.positions.len() > 6);

    let mut spoilt = bundle();
    let existing = world.everything().await.concat().swap_remove(0).header;
    spoilt.events[30] = event(&existing.aggregate_type, existing.aggregate_id, 1, existing.subject);
    spoilt.expect = append(spoilt.events.clone()).expect;
    assert!(matches!(log.append(spoilt).await.unwrap(), Outcome::Conflict { .. }));
    assert_eq!(world.everything().await.iter().map(Vec::len).sum::<usize>(), 80);
    // Bundles of many writers over all partitions, in any order of theirs, get in each other's way only in time.
    let logs = [world.event_log().await, world.event_log().await];
    let outcomes = all((0..12).map(|number| (logs[number % 2].clone(), bundle()))).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Outcome::Appended(_)))));
    assert_eq!(world.everything().await.iter().map(Vec::len).sum::<usize>(), 13 * 80);
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_another_partition_is_locked_before_it_is_relied_on() {
    let world = World::new().await;
    let log = world.event_log().await;
    let directory = Uuid::new_v4();
    appended(log.append(append(vec![event("DirectoryEntry", directory, 1, directory)])).await.unwrap());
    for _ in 0..12 {
        let mut leaning = registration();
        let aggregate_type = "DirectoryEntry".into();
        leaning.expect.push(Expectation::Stream { aggregate_type, aggregate_id: directory, sequence: 1 });
        appended(log.append(leaning).await.unwrap());
    }
    let mut leaning = registration();
    let aggregate_type = "DirectoryEntry".into();
    leaning.expect.push(Expectation::Stream { aggregate_type, aggregate_id: directory, sequence: 2 });
    assert!(matches!(log.append(leaning).await.unwrap(), Outcome::Conflict { .. }));
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leans_on_a_stream_waits_for_the_append_that_moves_it() {
    let world = World::new().await;
    let log = world.event_log().await;
    let directory = Uuid::new_v4();
    appended(log.append(append(vec![event("DirectoryEntry", directory, 1, directory)])).await.unwrap());
    let elsewhere = |patient: &nexus_event_store::Append| {
        let partition = |subject| partition_of(subject, common::PARTITIONS);
        partition(patient.events[0].subject) != partition(directory)
    };
    let mut leaning = std::iter::repeat_with(registration).find(elsewhere).unwrap();
    let aggregate_type = "DirectoryEntry".into();
    leaning.expect.push(Expectation::Stream { aggregate_type, aggregate_id: directory, sequence: 1 });

    // Another process is in the middle of an append to the stream, in another partition than ours.
    let owner = world.owner();
    let mut moving = owner.begin().await.unwrap();
    for statement in [
        "select from heads where position = 1 for update",
        "insert into events select partition, 2, aggregate_type, aggregate_id, 2, subject, event_type, event_version,
         key_id, recorded_at, traceparent, sealed from events",
        "update heads set position = 2 where position = 1",
    ] {
        sqlx::query(statement).execute(&mut *moving).await.unwrap();
    }
    let leaning = tokio::spawn(async move { log.append(leaning).await });
    let waits = || async {
        assert!(!leaning.is_finished(), "it did not wait");
        let sql = "select exists (select from pg_stat_activity where datname = current_database()
                   and application_name = 'nexus-append' and wait_event_type = 'Lock')";
        sqlx::query_scalar::<_, bool>(sql).fetch_one(&owner).await.unwrap()
    };
    common::eventually("it waits", waits).await;
    moving.commit().await.unwrap();
    let conflict = Outcome::Conflict { aggregate_type: "DirectoryEntry".into(), aggregate_id_or_subject: directory };
    assert_eq!(leaning.await.unwrap().unwrap(), conflict);
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contradictory_append_is_refused_before_it_is_sent() {
    let world = World::new().await;
    let log = world.event_log().await;
    let id = Uuid::new_v4();
    let mut unexpected = append(vec![event("Patient", id, 1, id)]);
    unexpected.expect.clear();
    let gap = append(vec![event("Patient", id, 1, id), event("Patient", id, 3, id)]);
    let two_subjects = append(vec![event("Patient", id, 1, id), event("Patient", id, 2, Uuid::new_v4())]);
    let mut twice = registration();
    twice.take = vec![take("mrn", "1", id), take("mrn", "1", id)];
    for append in [unexpected, gap, two_subjects, twice] {
        assert!(matches!(log.append(append).await, Err(Error::Invalid(_))));
    }
    let mut large = registration();
    large.events[0].payload = to_raw_value(&json!({"text": "x".repeat(3 * 1024 * 1024)})).unwrap();
    assert!(matches!(log.append(large).await, Err(Error::TooLarge { .. })));
    let mut below = registration();
    below.events[0].payload = to_raw_value(&json!({"text": "x".repeat(3 * 1024 * 1024 - 1024)})).unwrap();
    appended(log.append(below).await.unwrap());
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_the_database_refuses_fails_alone() {
    let world = World::new().await;
    let log = world.event_log().await;
    let calls: Vec<_> = (0..30)
        .map(|number| {
            let mut append = registration();
            append.idempotency = Some(key(&format!("k{number}"), 1));
            if number == 7 {
                // Valid JSON that jsonb does not take.
                append.response = json!("\u{0}");
            }
            (log.clone(), append)
        })
        .collect();
    let outcomes = all(calls).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Err(Error::Invalid(_)) if number == 7 => {}
            outcome => drop(appended(outcome.unwrap())),
        }
    }
    assert!(log.ready().await);
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_or_removes_an_event() {
    let world = World::new().await;
    let log = world.event_log().await;
    appended(log.append(registration()).await.unwrap());
    for statement in ["update events set sequence = 2", "delete from events", "truncate events"] {
        let refused = sqlx::query(statement).execute(&world.owner()).await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "23001", "{statement} as the owner");
        for role in ["nexus_command", "nexus_relay", "nexus_projector"] {
            let refused = sqlx::query(statement).execute(&world.log_as(role)).await.unwrap_err();
            assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501", "{statement} as {role}");
        }
    }
    for role in ["nexus_command", "nexus_relay", "nexus_projector"] {
        let refused = sqlx::query("insert into events select * from events").execute(&world.log_as(role)).await;
        assert!(refused.is_err(), "insert as {role}");
    }
    for (role, table) in [
        ("nexus_relay", "claims"),
        ("nexus_relay", "idempotency"),
        ("nexus_relay", "restored"),
        ("nexus_query", "events"),
    ] {
        let refused = sqlx::query(&format!("select from {table}")).execute(&world.log_as(role)).await;
        assert!(refused.is_err(), "{role} reads {table}");
    }
    assert!(sqlx::query("select from subject_keys").execute(&world.keys_as("nexus_relay")).await.is_err());
    assert_eq!(world.everything().await.iter().map(Vec::len).sum::<usize>(), 1);
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_another_size_is_refused() {
    let world = World::new().await;
    let owner = world.owner();
    assert!(matches!(
        nexus_event_store::migrate_log(&owner, 7).await,
        Err(Error::Partitions { expected: 7, found: 12 })
    ));
    let config = nexus_event_store::LogConfig {
        log_pool: owner,
        keyring: world.keyring().await,
        kafka: (&world.kafka).into(),
        topic: world.topic.clone(),
        partitions: Some(96),
        claims: common::RULES,
    };
    assert!(matches!(EventLog::connect(config).await, Err(Error::Partitions { expected: 96, found: 12 })));
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_unknown_and_the_key_resolves_it() {
    let world = World::new().await;
    let log = world.event_log().await;
    let owner = Arc::new(world.owner());
    // The append waits for this lock while its connection is cut.
    let mut holding = owner.begin().await.unwrap();
    sqlx::query("select from heads for update").fetch_all(&mut *holding).await.unwrap();
    let mut request = registration();
    request.idempotency = Some(key("k", 1));
    let waiting = tokio::spawn({
        let (log, request) = (log.clone(), request.clone());
        async move { log.append(request).await }
    });
    let cut = || async {
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity
                   where datname = current_database() and application_name = 'nexus-append' and wait_event_type = 'Lock'";
        !sqlx::query(sql).fetch_all(&*owner).await.unwrap().is_empty()
    };
    common::eventually("the append waits and is cut", cut).await;
    assert!(matches!(waiting.await.unwrap(), Err(Error::Unknown)));
    holding.rollback().await.unwrap();

    common::eventually("the writer is back", || log.ready()).await;
    assert_eq!(log.recall(&key("k", 1)).await.unwrap(), None, "it was not stored");
    appended(log.append(request.clone()).await.unwrap());
    assert!(matches!(log.append(request).await.unwrap(), Outcome::Duplicate { same_request: true, .. }));
    world.drop().await;
}
