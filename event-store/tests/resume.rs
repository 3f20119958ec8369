//! Streams from their latest snapshot on.
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod common;

use std::time::Instant;

use common::{World, append, appended, event};
use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use nexus_event_store::{EventLog, Resumed};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use uuid::Uuid;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Basic;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Recorded;

impl cqrs_es::DomainEvent for Recorded {
    fn event_type(&self) -> String {
        "Basic.Recorded".into()
    }

    fn event_version(&self) -> String {
        "1.0".into()
    }
}

impl Aggregate for Basic {
    const TYPE: &'static str = "Basic";
    type Command = ();
    type Event = Recorded;
    type Error = std::fmt::Error;
    type Services = ();

    async fn handle(&mut self, (): (), (): &(), _sink: &EventSink<Self>) -> Result<(), std::fmt::Error> {
        Ok(())
    }

    fn apply(&mut self, _event: Recorded) {}
}

/// What is told of a stream by either way, which has to be the same.
async fn resumed(log: &EventLog, id: Uuid) -> (Option<(i64, Value)>, Vec<i64>) {
    let shape = |resumed: Resumed| {
        let snapshot = resumed.snapshot.map(|(header, state)| (header.sequence, state));
        (snapshot, resumed.events.iter().map(|event| event.header.sequence).collect::<Vec<_>>())
    };
    let own = shape(log.resume("Basic", id).await.unwrap());
    let stock = shape(log.resume_cold::<Basic>(id).await.unwrap());
    assert_eq!(own, stock);
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_from_its_latest_snapshot() {
    let world = World::new().await;
    let log = world.event_log().await;
    let (id, subject) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(resumed(&log, id).await, (None, vec![]), "there is no such stream");
    let events = (1..=5).map(|sequence| event("Basic", id, sequence, subject)).collect();
    appended(log.append(append(events)).await.unwrap());
    assert_eq!(resumed(&log, id).await, (None, vec![1, 2, 3, 4, 5]));

    log.save_snapshot(subject, "Basic", id, 3, &json!({"n": 3.10})).await.unwrap();
    assert_eq!(resumed(&log, id).await, (Some((3, json!({"n": 3.10}))), vec![4, 5]));
    log.save_snapshot(subject, "Basic", id, 5, &json!(5)).await.unwrap();
    assert_eq!(resumed(&log, id).await, (Some((5, json!(5))), vec![]));

    // One that does not open, or that is of an event that the log does not have, is as good as none.
    let move_it = |to: i64| sqlx::query("update snapshots set sequence = $1").bind(to);
    move_it(4).execute(&world.owner()).await.unwrap();
    assert_eq!(resumed(&log, id).await, (None, vec![1, 2, 3, 4, 5]));
    move_it(9).execute(&world.owner()).await.unwrap();
    assert_eq!(log.resume_cold::<Basic>(id).await.unwrap().events.len(), 5);
    assert_eq!(log.resume("Basic", id).await.unwrap().events.len(), 5);
    world.drop().await;
}

/// The measurement of ADR 7: `cargo test --release -p nexus-event-store --test resume -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn how_long_either_way_takes() {
    const ROUNDS: u32 = 300;
    let world = World::new().await;
    let log = world.event_log().await;
    let subject = Uuid::new_v4();
    for length in [1, 10, 200] {
        let id = Uuid::new_v4();
        let mut events: Vec<_> = (1..=length).map(|sequence| event("Basic", id, sequence, subject)).collect();
        for event in &mut events {
            let resource = json!({"note": "a secret about the patient", "text": "x".repeat(3_000)});
            event.payload = to_raw_value(&json!({"Recorded": {"resource": resource}})).unwrap();
        }
        appended(log.append(append(events)).await.unwrap());
        for round in 0..2 {
            let began = Instant::now();
            for _ in 0..ROUNDS {
                log.resume("Basic", id).await.unwrap();
            }
            let own = began.elapsed() / ROUNDS;
            let began = Instant::now();
            for _ in 0..ROUNDS {
                log.resume_cold::<Basic>(id).await.unwrap();
            }
            println!(
                "{length} events, round {round}: own statement {own:?}, postgres-es {:?}",
                began.elapsed() / ROUNDS
            );
        }
    }
    world.drop().await;
}
