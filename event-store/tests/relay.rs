//! The relay against a real Kafka: everything, in order, whoever dies.
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{DEADLINE, World, append, appended, event, eventually, register_many, registration};
use nexus_event_store::{Error, SealedEvent, event_id, kafka};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, OwnedMessage};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use uuid::Uuid;

/// Every record of the topic by partition, as a consumer that starts at the beginning sees them.
fn records(world: &World) -> BTreeMap<i32, Vec<OwnedMessage>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.kafka)
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut wanted = BTreeMap::new();
    let mut list = TopicPartitionList::new();
    for partition in 0..common::PARTITIONS {
        let (_, high) = consumer.fetch_watermarks(&world.topic, partition, DEADLINE).unwrap();
        list.add_partition_offset(&world.topic, partition, Offset::Beginning).unwrap();
        if high > 0 {
            wanted.insert(partition, high);
        }
    }
    consumer.assign(&list).unwrap();
    let mut records = BTreeMap::<i32, Vec<OwnedMessage>>::new();
    while !wanted.is_empty() {
        let Some(record) = consumer.poll(DEADLINE) else { panic!("records are missing: {wanted:?}") };
        let record = record.unwrap().detach();
        if wanted.get(&record.partition()).is_some_and(|high| record.offset() + 1 >= *high) {
            wanted.remove(&record.partition());
        }
        records.entry(record.partition()).or_default().push(record);
    }
    records
}

/// What a consumer keeps that follows the rule: skip what is not after the checkpoint, refuse a gap.
fn consumed(world: &World) -> (Vec<Vec<SealedEvent>>, usize) {
    let (mut kept, mut repeats) = (vec![Vec::<SealedEvent>::new(); 12], 0);
    for (partition, records) in records(world) {
        let kept = &mut kept[usize::try_from(partition).unwrap()];
        for record in records {
            let event = kafka::parse_record(&record).unwrap();
            let checkpoint = kept.last().map_or(0, |last| last.position);
            assert!(event.position <= checkpoint + 1, "a gap in Kafka, partition {partition}, after {checkpoint}");
            if event.position == checkpoint + 1 {
                kept.push(event);
            } else {
                repeats += 1;
            }
        }
    }
    (kept, repeats)
}

async fn published(world: &World) -> i64 {
    sqlx::query_scalar("select sum(position)::bigint from relay_progress").fetch_one(&world.owner()).await.unwrap()
}

async fn owners(world: &World) -> BTreeMap<Option<Uuid>, usize> {
    let sql = "select owner, count(*) from relay_leases group by owner";
    let rows: Vec<(Option<Uuid>, i64)> = sqlx::query_as(sql).fetch_all(&world.owner()).await.unwrap();
    rows.into_iter().map(|(owner, count)| (owner, usize::try_from(count).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_published_in_order_with_the_documented_headers() {
    let world = World::new().await;
    let log = world.event_log().await;
    let relay = world.relay();
    register_many(&log, 300).await;
    let id = Uuid::new_v4();
    let mut traced = append(vec![event("Patient", id, 1, id), event("Patient", id, 2, id)]);
    traced.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    let receipt = appended(log.append(traced).await.unwrap());
    assert!(log.wait_published(&receipt.positions, DEADLINE).await.unwrap());
    let heads = log.heads().await.unwrap();
    assert!(log.wait_published(&heads, DEADLINE).await.unwrap());
    let ahead: Vec<_> = heads.iter().map(|(partition, head)| (*partition, head + 1)).collect();
    assert!(!log.wait_published(&ahead, Duration::from_millis(300)).await.unwrap());

    let (kept, repeats) = consumed(&world);
    assert_eq!(kept, world.everything().await);
    assert_eq!(kept.iter().map(Vec::len).sum::<usize>(), 302);
    assert_eq!(repeats, 0);

    let records = records(&world);
    let record = records[&receipt.positions[0].0].iter().find(|record| record.key() == Some(id.to_string().as_bytes()));
    let record = record.unwrap();
    let headers: BTreeMap<_, _> = record
        .headers()
        .unwrap()
        .iter()
        .map(|header| (header.key, String::from_utf8(header.value.unwrap().to_vec()).unwrap()))
        .collect();
    let stored = &kept[usize::try_from(receipt.positions[0].0).unwrap()];
    let stored = stored.iter().find(|event| event.header.aggregate_id == id).unwrap();
    let expected = BTreeMap::from([
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", event_id("Patient", id, 1).to_string()),
        ("ce_type", "Patient.Recorded".to_owned()),
        ("ce_source", "/nexushealth/Patient".to_owned()),
        ("ce_subject", id.to_string()),
        ("ce_time", stored.header.recorded_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
        ("content-type", "application/cose".to_owned()),
        ("position", stored.position.to_string()),
        ("sequence", "1".to_owned()),
        ("schema", "1.0".to_owned()),
        ("key-id", stored.header.key_id.to_string()),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    ]);
    assert_eq!(headers, expected);
    assert_eq!(record.payload(), Some(stored.sealed.as_slice()));

    relay.stop().await;
    assert_eq!(owners(&world).await, BTreeMap::from([(None, 12)]), "leases are given up at once");
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_midway_is_followed_without_a_gap() {
    let world = World::new().await;
    let log = world.event_log().await;
    let writing = tokio::spawn({
        let log = log.clone();
        async move { register_many(&log, 3_000).await }
    });
    for round in 1..=3 {
        let relay = world.relay();
        eventually("some events are published", || async { published(&world).await > round * 400 }).await;
        relay.kill().await;
    }
    writing.await.unwrap();
    let last = world.relay();
    assert!(log.wait_published(&log.heads().await.unwrap(), DEADLINE).await.unwrap());
    let (kept, _) = consumed(&world);
    assert_eq!(kept, world.everything().await);
    assert_eq!(kept.iter().map(Vec::len).sum::<usize>(), 3_000);
    last.stop().await;
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_share_and_take_over() {
    let world = World::new().await;
    let log = world.event_log().await;
    let first = world.relay();
    eventually("one has all", || async { owners(&world).await.values().eq([&12]) }).await;
    let second = world.relay();
    eventually("two have half each", || async { owners(&world).await.values().eq([&6, &6]) }).await;
    register_many(&log, 200).await;
    assert!(log.wait_published(&log.heads().await.unwrap(), DEADLINE).await.unwrap());
    first.kill().await;
    eventually("the other takes over what ran out", || async { owners(&world).await.values().eq([&12]) }).await;
    register_many(&log, 200).await;
    assert!(log.wait_published(&log.heads().await.unwrap(), DEADLINE).await.unwrap());
    let third = world.relay();
    eventually("a new one gets its share", || async { owners(&world).await.values().eq([&6, &6]) }).await;
    second.stop().await;
    eventually("what is given up is taken", || async { owners(&world).await.values().eq([&12]) }).await;
    register_many(&log, 100).await;
    assert!(log.wait_published(&log.heads().await.unwrap(), DEADLINE).await.unwrap());
    assert_eq!(consumed(&world).0, world.everything().await);
    third.stop().await;
    world.drop().await;
}

/// What a restore of yesterday's backup does to the log.
async fn lose_tail(world: &World, keep: i64) {
    let lose = format!(
        "set session_replication_role = replica; delete from events where position > {keep};
         update heads set position = least(position, {keep}); update relay_progress set position = least(position, {keep})"
    );
    sqlx::Executor::execute(&world.owner(), &*lose).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lost_its_tail_accepts_nothing_until_kafka_gave_it_back() {
    let world = World::new().await;
    let log = world.event_log().await;
    let relay = world.relay();
    register_many(&log, 1_500).await;
    let heads = log.heads().await.unwrap();
    assert!(log.wait_published(&heads, DEADLINE).await.unwrap());
    relay.stop().await;
    let before = world.everything().await;
    drop(log);

    lose_tail(&world, 7).await;
    let log = world.event_log().await;
    assert!(!log.ready().await);
    assert!(matches!(log.append(registration()).await, Err(Error::Recovering)));
    assert_eq!(world.everything().await.iter().map(Vec::len).sum::<usize>(), 12 * 7);

    let relay = world.relay();
    eventually("the tail is back", || log.ready()).await;
    assert_eq!(world.everything().await, before, "the same events at the same positions");
    appended(log.append(registration()).await.unwrap());
    register_many(&log, 100).await;
    assert!(log.wait_published(&log.heads().await.unwrap(), DEADLINE).await.unwrap());
    let (kept, repeats) = consumed(&world);
    assert_eq!(kept, world.everything().await);
    assert_eq!((kept.iter().map(Vec::len).sum::<usize>(), repeats), (1_601, 0));
    relay.stop().await;
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_process_notices_a_store_that_went_back() {
    let world = World::new().await;
    let log = world.event_log().await;
    let relay = world.relay();
    register_many(&log, 600).await;
    assert!(log.wait_published(&log.heads().await.unwrap(), DEADLINE).await.unwrap());
    relay.stop().await;
    // The same system on the same timeline: a data folder copied back. Its connections end, as the server was stopped.
    lose_tail(&world, 3).await;
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()";
    sqlx::query(cut).execute(&world.owner()).await.unwrap();
    eventually("it is noticed", || async { matches!(log.append(registration()).await, Err(Error::Recovering)) }).await;
    assert_eq!(world.everything().await.iter().map(Vec::len).sum::<usize>(), 12 * 3);
    let relay = world.relay();
    eventually("the tail is back", || log.ready()).await;
    assert_eq!(world.everything().await.iter().map(Vec::len).sum::<usize>(), 600);
    relay.stop().await;
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_of_a_zombie_at_the_end_do_not_hide_the_tail() {
    let world = World::new().await;
    let log = world.event_log().await;
    let relay = world.relay();
    let id = Uuid::new_v4();
    for sequence in 1..=30 {
        appended(log.append(append(vec![event("Patient", id, sequence, id)])).await.unwrap());
    }
    let heads = log.heads().await.unwrap();
    assert!(log.wait_published(&heads, DEADLINE).await.unwrap());
    relay.stop().await;
    let partition = nexus_event_store::partition_of(id, common::PARTITIONS);
    let events = world.everything().await.swap_remove(usize::try_from(partition).unwrap());
    let producer: rdkafka::producer::FutureProducer =
        ClientConfig::new().set("bootstrap.servers", &world.kafka).create().unwrap();
    for zombie in &events[10..20] {
        let key = kafka::record_key(zombie);
        let record = rdkafka::producer::FutureRecord::to(&world.topic)
            .partition(partition)
            .key(&key)
            .payload(&zombie.sealed)
            .headers(kafka::record_headers(zombie));
        producer.send(record, DEADLINE).await.unwrap();
    }
    let tails = kafka::tail_positions(&world.kafka, &world.topic, common::PARTITIONS, DEADLINE).await.unwrap();
    assert_eq!(tails[usize::try_from(partition).unwrap()], Some(30));
    assert_eq!(tails.iter().flatten().count(), 1);
    let relay = world.relay();
    appended(log.append(append(vec![event("Patient", id, 31, id)])).await.unwrap());
    assert!(log.wait_published(&[(partition, 31)], DEADLINE).await.unwrap());
    let (kept, repeats) = consumed(&world);
    assert_eq!((kept, repeats), (world.everything().await, 10));
    relay.stop().await;
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_lost_its_records_is_filled_from_the_store() {
    let world = World::new().await;
    let log = world.event_log().await;
    register_many(&log, 300).await;
    // As after a relay that had published everything to a topic that is gone.
    sqlx::query("update relay_progress p set position = h.position from heads h where h.partition = p.partition")
        .execute(&world.owner())
        .await
        .unwrap();
    let relay = world.relay();
    let complete = || async {
        let tails = kafka::tail_positions(&world.kafka, &world.topic, common::PARTITIONS, DEADLINE).await.unwrap();
        let tails: Vec<_> = (0..).zip(tails.into_iter().map(|tail| tail.unwrap_or(0))).collect();
        tails == log.heads().await.unwrap()
    };
    eventually("the topic is complete", complete).await;
    assert_eq!(consumed(&world), (world.everything().await, 0));
    relay.stop().await;
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_nothing_is_accepted_unseen_and_nobody_gives_up() {
    let mut world = World::new().await;
    let known = world.event_log().await;
    let kafka = std::mem::replace(&mut world.kafka, "127.0.0.1:1".into());
    // A process that has compared its store with Kafka once goes on without it.
    appended(known.append(registration()).await.unwrap());
    let relay = world.relay();
    eventually("the relay has its leases", || async { owners(&world).await.values().eq([&12]) }).await;
    // A new one can't know whether Kafka is ahead.
    let unknowing = world.event_log().await;
    assert!(!unknowing.ready().await);
    assert!(matches!(unknowing.append(registration()).await, Err(Error::Unavailable(_))));
    assert!(!relay.task.is_finished());
    relay.stop().await;
    assert_eq!(owners(&world).await, BTreeMap::from([(None, 12)]));

    world.kafka = kafka;
    let relay = world.relay();
    assert!(known.wait_published(&known.heads().await.unwrap(), DEADLINE).await.unwrap());
    relay.stop().await;
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_answers_are_swept_and_recent_ones_stay() {
    let world = World::new().await;
    let log = world.event_log().await;
    for number in 0..3 {
        let mut request = registration();
        request.idempotency = Some(common::key(&format!("k{number}"), 1));
        appended(log.append(request).await.unwrap());
    }
    sqlx::query("update idempotency set recorded_at = now() - interval '31 days' where key = (select key from idempotency limit 1)")
        .execute(&world.owner())
        .await
        .unwrap();
    let relay = world.relay();
    let left = || async {
        let count = sqlx::query_scalar::<_, i64>("select count(*) from idempotency");
        count.fetch_one(&world.owner()).await.unwrap() == 2
    };
    eventually("the old one is gone", left).await;
    relay.stop().await;
    world.drop().await;
}
