//! cqrs-es on our log, and our log through a stock postgres-es.
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use common::{World, append, appended, event};
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::PersistedEventRepository;
use cqrs_es::{Aggregate, AggregateContext, AggregateError, CqrsFramework, DomainEvent, EventStore};
use nexus_event_store::AggregateStore;
use postgres_es::PostgresEventRepository;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

/// Counts how often it was told to: an event applied twice shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counter {
    count: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Counted {
    Added { by: u64 },
}

impl DomainEvent for Counted {
    fn event_type(&self) -> String {
        "Counter.Added".into()
    }

    fn event_version(&self) -> String {
        "1.0".into()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("not that many")]
struct TooMany;

impl Aggregate for Counter {
    const TYPE: &'static str = "Counter";
    type Command = Vec<u64>;
    type Event = Counted;
    type Error = TooMany;
    type Services = ();

    async fn handle(&mut self, command: Vec<u64>, (): &(), sink: &EventSink<Self>) -> Result<(), TooMany> {
        for by in command {
            sink.write(Counted::Added { by }, self).await;
        }
        if self.count > 100 { Err(TooMany) } else { Ok(()) }
    }

    fn apply(&mut self, Counted::Added { by }: Counted) {
        self.count += by;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_framework_on_our_store_applies_each_event_once() {
    let world = World::new().await;
    let log = world.event_log().await;
    let subject = Uuid::new_v4();
    let store = || Arc::new(AggregateStore::<Counter>::new(log.clone(), move |_, _| subject));
    let (warm, cold) = (store(), store());
    let framework = CqrsFramework::new(Shared(warm.clone()), vec![], ());
    let id = Uuid::new_v4().to_string();
    let metadata =
        HashMap::from([("actor".to_owned(), "nurse-1".to_owned()), ("roles".to_owned(), "nurse,x".to_owned())]);
    framework.execute_with_metadata(&id, vec![1, 2], metadata.clone()).await.unwrap();
    framework.execute(&id, vec![4]).await.unwrap();
    framework.execute(&id, vec![]).await.unwrap();
    let refused = framework.execute(&id, vec![50, 51]).await.unwrap_err();
    assert!(matches!(refused, AggregateError::UserError(TooMany)));

    for store in [&warm, &cold] {
        let mut loaded = store.load_aggregate(&id).await.unwrap();
        assert_eq!(loaded.aggregate(), &Counter { count: 7 }, "from memory and from the log alike");
    }
    let events = cold.load_events(&id).await.unwrap();
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(events[0].metadata["actor"], "nurse-1");
    assert_eq!(events[0].metadata["roles"], "nurse,x");
    assert_eq!(world.everything().await.iter().map(Vec::len).sum::<usize>(), 3);

    // Another process has gone on: the one that remembers is told, and then sees it.
    let other = CqrsFramework::new(Shared(cold), vec![], ());
    other.execute(&id, vec![8]).await.unwrap();
    assert!(matches!(framework.execute(&id, vec![16]).await, Err(AggregateError::AggregateConflict)));
    framework.execute(&id, vec![16]).await.unwrap();
    assert_eq!(warm.load_aggregate(&id).await.unwrap().aggregate(), &Counter { count: 31 });
    let unknown =
        framework.execute_with_metadata(&id, vec![1], HashMap::from([("mrn".to_owned(), String::new())])).await;
    assert!(matches!(unknown, Err(AggregateError::UnexpectedError(_))), "metadata is kept or refused, never lost");
    world.drop().await;
}

struct Shared(Arc<AggregateStore<Counter>>);

impl EventStore<Counter> for Shared {
    type AC = <AggregateStore<Counter> as EventStore<Counter>>::AC;

    async fn load_events(&self, id: &str) -> Result<Vec<cqrs_es::EventEnvelope<Counter>>, AggregateError<TooMany>> {
        self.0.load_events(id).await
    }

    async fn load_aggregate(&self, id: &str) -> Result<Self::AC, AggregateError<TooMany>> {
        self.0.load_aggregate(id).await
    }

    async fn commit(
        &self,
        events: Vec<Counted>,
        context: Self::AC,
        metadata: HashMap<String, String>,
    ) -> Result<Vec<cqrs_es::EventEnvelope<Counter>>, AggregateError<TooMany>> {
        self.0.commit(events, context, metadata).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_repository_reads_a_stream() {
    let world = World::new().await;
    let log = world.event_log().await;
    let id = Uuid::new_v4();
    let events = (1..=3).map(|sequence| event("Counter", id, sequence, id)).collect();
    appended(log.append(append(events)).await.unwrap());
    let stock =
        PostgresEventRepository::new(world.log_as("nexus_command")).with_tables("event_streams", "event_snapshots");
    let read = stock.get_events::<Counter>(&id.to_string()).await.unwrap();
    assert_eq!(read.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    let first = &read[0];
    assert_eq!((first.aggregate_type.as_str(), first.event_type.as_str()), ("Counter", "Counter.Recorded"));
    assert_eq!((first.aggregate_id.clone(), first.event_version.as_str()), (id.to_string(), "1.0"));
    assert_eq!(first.metadata["subject"], json!(id));
    assert!(first.payload["sealed"].as_str().is_some_and(|sealed| !sealed.contains('\n')));
    assert!(!first.payload.to_string().contains("secret"));
    assert_eq!(stock.get_last_events::<Counter>(&id.to_string(), 2).await.unwrap(), read[2..]);
    assert_eq!(stock.get_snapshot::<Counter>(&id.to_string()).await.unwrap(), None);
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_sealed_and_never_goes_back() {
    let world = World::new().await;
    let log = world.event_log().await;
    let id = Uuid::new_v4();
    appended(log.append(append(vec![event("Patient", id, 1, id)])).await.unwrap());
    assert_eq!(log.load_snapshot(id, "Patient", id).await.unwrap(), None);
    log.save_snapshot(id, "Patient", id, 400, &json!({"name": "Canary"})).await.unwrap();
    log.save_snapshot(id, "Patient", id, 200, &json!({"name": "older"})).await.unwrap();
    assert_eq!(log.load_snapshot(id, "Patient", id).await.unwrap(), Some((400, json!({"name": "Canary"}))));
    let sealed: Vec<u8> = sqlx::query_scalar("select sealed from snapshots").fetch_one(&world.owner()).await.unwrap();
    assert!(!sealed.windows(6).any(|window| window == b"Canary"));
    // A snapshot moved to another sequence is as good as none.
    sqlx::query("update snapshots set sequence = 401").execute(&world.owner()).await.unwrap();
    assert_eq!(log.load_snapshot(id, "Patient", id).await.unwrap(), None);
    world.drop().await;
}
