//! What Postgres and Kafka hold, seen with other people's programs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cqrs_es::persist::PersistedEventRepository as _;
use nexus_domain::patient::Patient;
use postgres_es::PostgresEventRepository;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::DEADLINE;
use crate::stack::Stack;

const TOPIC: &str = "nexus.events.v1";
const PARTITIONS: i32 = 12;

struct Record {
    partition: i32,
    position: i64,
    key: String,
    headers: BTreeMap<String, String>,
    value: Vec<u8>,
}

/// Positions run from 1 to the head without a gap: in the log, in the topic (repeats allowed), in every checkpoint.
pub async fn has_no_gap(stack: &Stack, events: usize) {
    stack.wait_until_read_models_are_level().await;
    let log = stack.database("nexus_log").await;
    let rows: Vec<(i32, i64, i64, i64)> = sqlx::query_as(
        "select heads.partition, heads.position, count(events.*), coalesce(max(events.position), 0)
         from heads left join events using (partition) group by heads.partition, heads.position",
    )
    .fetch_all(&log)
    .await
    .unwrap();
    for (partition, head, count, last) in &rows {
        assert_eq!((head, head), (count, last), "a gap in partition {partition} of the log");
    }
    let total: i64 = rows.iter().map(|(_, head, _, _)| head).sum();
    assert_eq!(total, i64::try_from(events).unwrap(), "one event for each resource");

    let mut reached: BTreeMap<i32, i64> = BTreeMap::new();
    for record in records(stack) {
        let last = reached.entry(record.partition).or_default();
        assert!(record.position <= *last + 1, "a gap after {last} in partition {} of the topic", record.partition);
        *last = record.position.max(*last);
    }
    for (partition, head, _, _) in &rows {
        assert_eq!(reached.get(partition).unwrap_or(&0), head, "partition {partition} of the topic");
    }

    let read = stack.database("nexus_read").await;
    let beyond: i64 = sqlx::query_scalar("select count(*) from projection.parked").fetch_one(&read).await.unwrap();
    assert_eq!(beyond, 0, "nothing is parked");
}

/// `PostgresEventRepository`, as it comes from its crate, reads our log through the view.
pub async fn a_stock_reader_reads_a_stream(stack: &Stack) {
    let log = stack.database("nexus_log").await;
    let id: String = sqlx::query_scalar("select aggregate_id from events where aggregate_type = 'Patient' limit 1")
        .fetch_one(&log)
        .await
        .unwrap();
    let repository = PostgresEventRepository::new(log).with_tables("event_streams", "event_snapshots");
    let events = repository.get_events::<Patient>(&id).await.unwrap();
    assert_eq!((events[0].sequence, events[0].event_type.as_str()), (1, "Patient.Registered"));
    assert!(events[0].payload["sealed"].is_string(), "what it reads is sealed");
}

/// As documented in `docs/how-to/open-an-envelope.md`.
pub async fn records_have_their_documented_headers(stack: &Stack) {
    const HEADERS: [&str; 11] = [
        "ce_id",
        "ce_source",
        "ce_specversion",
        "ce_subject",
        "ce_time",
        "ce_type",
        "content-type",
        "key-id",
        "position",
        "schema",
        "sequence",
    ];
    for record in records(stack) {
        let names: Vec<&str> =
            record.headers.keys().map(String::as_str).filter(|name| *name != "traceparent").collect();
        assert_eq!(names, HEADERS);
        assert_eq!(record.headers["ce_specversion"], "1.0");
        assert_eq!(record.headers["content-type"], "application/cose");
        assert_eq!(record.position.to_string(), record.headers["position"]);
        assert!(uuid::Uuid::parse_str(&record.key).is_ok(), "the key is the subject's id");
        let partition = nexus_event_store::partition_of(record.key.parse().unwrap(), PARTITIONS);
        assert_eq!(partition, record.partition, "Kafka's own partitioner puts the key there");
        assert!(!record.value.is_empty());
    }
}

/// The whole topic, from the first record on.
fn records(stack: &Stack) -> Vec<Record> {
    let consumer: BaseConsumer =
        stack.kafka().client().set("group.id", "end-to-end").set("enable.auto.commit", "false").create().unwrap();
    let mut assignment = TopicPartitionList::new();
    let mut left = 0;
    for partition in 0..PARTITIONS {
        let (low, high) = consumer.fetch_watermarks(TOPIC, partition, Duration::from_secs(30)).unwrap();
        left += high - low;
        assignment.add_partition_offset(TOPIC, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let (started, mut found) = (Instant::now(), Vec::new());
    while left > 0 {
        assert!(started.elapsed() < DEADLINE, "the topic can't be read to its end");
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let Ok(message) = message else { continue };
        let headers = message.headers().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers: BTreeMap<String, String> =
            headers.iter().map(|header| (header.key.to_owned(), text(header.value.unwrap()))).collect();
        found.push(Record {
            partition: message.partition(),
            position: headers["position"].parse().unwrap(),
            key: text(message.key().unwrap()),
            value: message.payload().unwrap().to_vec(),
            headers,
        });
        left -= 1;
    }
    found
}
