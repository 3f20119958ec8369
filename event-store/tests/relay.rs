//! The relay against a real Kafka: everything, in order, whoever dies.
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{DEADLINE, World, append, appended, claim, event, eventually, register_many, registration, release, take};
use nexus_event_store::relay::{Relay, RelayConfig};
use nexus_event_store::{Append, Error, EventLog, Outcome, SealedEvent, event_id, kafka, partition_of};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::json;
use serde_json::value::to_raw_value;
use tokio_util::sync::CancellationToken;
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
async fn a_relay_whose_leases_went_to_another_stores_no_progress() {
    let world = World::new().await;
    let log = world.event_log().await;
    // It asks for its leases so seldom that it does not notice.
    let config = RelayConfig { lease: Duration::from_secs(600), ..world.relay_config() };
    let (stop, relay) = (CancellationToken::new(), Relay::try_new(config).unwrap());
    let task = tokio::spawn(relay.run(stop.clone()));
    register_many(&log, 1).await;
    eventually("it publishes", || async { published(&world).await == 1 }).await;
    for statement in [
        "update relay_leases set owner = gen_random_uuid(), epoch = epoch + 1, expires_at = now() + interval '1 hour'",
        "update relay_progress set position = 0",
    ] {
        sqlx::query(statement).execute(&world.owner()).await.unwrap();
    }
    // Of each partition it publishes what comes first, and learns by its progress that it is another's. By the time
    // that one is published, it has tried to store that of those before.
    for partition in 0..5 {
        let here = |append: &Append| partition_of(append.events[0].subject, common::PARTITIONS) == partition;
        let registration = std::iter::repeat_with(registration).find(here).unwrap();
        appended(log.append(registration).await.unwrap());
        let tails = || kafka::tail_positions(&world.kafka, &world.topic, common::PARTITIONS, DEADLINE);
        let there = || async { tails().await.unwrap()[usize::try_from(partition).unwrap()].is_some() };
        eventually("the zombie publishes", there).await;
    }
    assert_eq!(published(&world).await, 0, "the progress of another's partitions");
    stop.cancel();
    task.await.unwrap();
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

/// As when the server was stopped.
async fn cut_connections(world: &World) {
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()";
    sqlx::query(cut).execute(&world.owner()).await.unwrap();
}

/// A log that has not noticed yet that its connection was cut calls itself ready, so it is tried.
async fn accepts_again(log: &EventLog) {
    let accepts = || async { matches!(log.append(registration()).await, Ok(Outcome::Appended(_))) };
    eventually("the log accepts again", accepts).await;
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
    let forgotten = Arc::new(AtomicUsize::new(0));
    log.on_rollback({
        let forgotten = forgotten.clone();
        move || {
            forgotten.fetch_add(1, Ordering::SeqCst);
        }
    });
    // The same system on the same timeline: a data folder copied back.
    lose_tail(&world, 3).await;
    cut_connections(&world).await;
    eventually("it is noticed", || async { matches!(log.append(registration()).await, Err(Error::Recovering)) }).await;
    assert_eq!(world.everything().await.iter().map(Vec::len).sum::<usize>(), 12 * 3);
    let relay = world.relay();
    eventually("the tail is back", || log.ready()).await;
    assert_eq!(world.everything().await.iter().map(Vec::len).sum::<usize>(), 600);
    assert_eq!(forgotten.load(Ordering::SeqCst), 1, "what was in memory is forgotten before anything is accepted");
    relay.stop().await;
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_relay_notices_a_store_that_went_back() {
    let world = World::new().await;
    let log = world.event_log().await;
    let relay = world.relay();
    register_many(&log, 600).await;
    assert!(log.wait_published(&log.heads().await.unwrap(), DEADLINE).await.unwrap());
    // The lease rows are of the lost time, too: once the same as those in memory, once of an earlier owner's.
    for leases in ["", "; update relay_leases set epoch = 0"] {
        let before = world.everything().await;
        lose_tail(&world, 3).await;
        sqlx::Executor::execute(&world.owner(), &*format!("select 1{leases}")).await.unwrap();
        cut_connections(&world).await;
        eventually("the tail is back", || async { world.everything().await == before }).await;
        accepts_again(&log).await;
        assert!(log.wait_published(&log.heads().await.unwrap(), DEADLINE).await.unwrap());
    }
    assert_eq!(consumed(&world), (world.everything().await, 0));
    relay.stop().await;
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_come_back_with_their_events() {
    let world = World::new().await;
    let logs = [world.event_log().await, world.event_log().await];
    let relay = world.relay();
    let patients: Vec<_> = std::iter::repeat_with(Uuid::new_v4).take(4).collect();
    let taking = |patient: usize, sequence, value: &str| {
        let mut taking = claiming(patients[patient], sequence, json!({"take": value}));
        taking.take = vec![take("mrn", value, patients[patient])];
        taking
    };
    let releasing = |patient: usize, sequence, value: &str| {
        let mut releasing = claiming(patients[patient], sequence, json!({"release": value}));
        releasing.release = vec![release("mrn", value, patients[patient])];
        releasing
    };
    for append in [taking(0, 1, "kept"), taking(0, 2, "moved"), taking(1, 1, "given up")] {
        appended(logs[0].append(append).await.unwrap());
    }
    let backup = "create table heads_then as select * from heads; create table claims_then as select * from claims";
    sqlx::Executor::execute(&world.owner(), backup).await.unwrap();
    for append in [releasing(0, 3, "moved"), taking(2, 1, "moved"), releasing(1, 2, "given up"), taking(3, 1, "new")] {
        appended(logs[0].append(append).await.unwrap());
    }
    assert!(logs[0].wait_published(&logs[0].heads().await.unwrap(), DEADLINE).await.unwrap());
    relay.stop().await;
    let claims: Vec<_> = ["kept", "moved", "given up", "new"].map(|value| claim("mrn", value)).into();
    let holders = logs[0].holders(&claims).await.unwrap();
    assert_eq!(
        holders.iter().map(|holder| holder.as_ref().map(|(_, id)| *id)).collect::<Vec<_>>(),
        [Some(patients[0]), Some(patients[2]), None, Some(patients[3])]
    );

    let restore = "set session_replication_role = replica;
        delete from events e using heads_then h where h.partition = e.partition and e.position > h.position;
        update heads h set position = t.position from heads_then t where t.partition = h.partition;
        truncate claims; insert into claims select * from claims_then";
    sqlx::Executor::execute(&world.owner(), restore).await.unwrap();
    cut_connections(&world).await;
    assert_ne!(logs[0].holders(&claims).await.unwrap(), holders);
    let relay = world.relay();
    for log in &logs {
        accepts_again(log).await;
        assert_eq!(log.holders(&claims).await.unwrap(), holders);
    }
    let second = Uuid::new_v4();
    let mut again = claiming(second, 1, json!({"take": "new"}));
    again.take = vec![take("mrn", "new", second)];
    assert!(matches!(logs[1].append(again).await.unwrap(), Outcome::ClaimTaken { .. }));
    relay.stop().await;
    world.drop().await;
}

fn claiming(patient: Uuid, sequence: i64, payload: serde_json::Value) -> Append {
    let mut event = event("Patient", patient, sequence, patient);
    event.payload = to_raw_value(&payload).unwrap();
    append(vec![event])
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_accepted_while_restored_claims_are_not_settled() {
    let world = World::new().await;
    let log = world.event_log().await;
    appended(log.append(registration()).await.unwrap());
    // Rows that a log without events of these positions can settle at once: but it has to connect anew to do it.
    sqlx::query("insert into restored values (0, 1, 1)").execute(&world.owner()).await.unwrap();
    assert!(matches!(log.append(registration()).await, Err(Error::Unavailable(_))));
    eventually("they are settled", || log.ready()).await;
    appended(log.append(registration()).await.unwrap());
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_does_not_stop_a_restore_and_a_gap_stops_its_partition_only() {
    let world = World::new().await;
    let log = world.event_log().await;
    let relay = world.relay();
    register_many(&log, 200).await;
    assert!(log.wait_published(&log.heads().await.unwrap(), DEADLINE).await.unwrap());
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &world.kafka).create().unwrap();
    for partition in 0..common::PARTITIONS {
        let stranger = FutureRecord::<str, str>::to(&world.topic).partition(partition).payload("not an event");
        producer.send(stranger, DEADLINE).await.unwrap();
    }
    register_many(&log, 200).await;
    assert!(log.wait_published(&log.heads().await.unwrap(), DEADLINE).await.unwrap());
    relay.stop().await;
    let before = world.everything().await;
    lose_tail(&world, 3).await;
    cut_connections(&world).await;
    let relay = world.relay();
    eventually("the tail is back", || async { world.everything().await == before }).await;
    accepts_again(&log).await;
    relay.stop().await;

    // A position that nothing leads up to.
    let mut far = before[0].last().unwrap().clone();
    far.position += 10;
    produce(&producer, &world, &far).await;
    let relay = world.relay();
    let elsewhere = std::iter::repeat_with(registration)
        .find(|append| partition_of(append.events[0].subject, common::PARTITIONS) != 0)
        .unwrap();
    let receipt = appended(log.append(elsewhere).await.unwrap());
    assert!(log.wait_published(&receipt.positions, DEADLINE).await.unwrap());
    assert!(!world.event_log().await.ready().await, "the partition with the gap is not recovered");
    relay.stop().await;
    world.drop().await;
}

async fn produce(producer: &FutureProducer, world: &World, event: &SealedEvent) {
    let key = kafka::record_key(event);
    let record = FutureRecord::to(&world.topic)
        .partition(event.partition)
        .key(&key)
        .payload(&event.sealed)
        .headers(kafka::record_headers(event));
    producer.send(record, DEADLINE).await.unwrap();
}

async fn limit_records(world: &World, bytes: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &world.kafka).create().unwrap();
    let limit = AlterConfig::new(ResourceSpecifier::Topic(&world.topic)).set("max.message.bytes", bytes);
    admin.alter_configs([&limit], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_partitions_do_not_cost_the_leases() {
    let world = World::new().await;
    let log = world.event_log().await;
    register_many(&log, 200).await;
    // Kafka refuses every record, so that every partition fails and is taken over again and again.
    limit_records(&world, "100").await;
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(3));
    let pool = pool.connect_lazy_with((*world.relay_config().log_pool.connect_options()).clone());
    let config = RelayConfig { lease: Duration::from_secs(3), log_pool: pool, ..world.relay_config() };
    let stop = CancellationToken::new();
    let relay = tokio::spawn(Relay::try_new(config).unwrap().run(stop.clone()));
    let all_held = || async { !owners(&world).await.contains_key(&None) };
    eventually("the relay has its leases", all_held).await;

    let owner = world.owner();
    let mut renewals = std::collections::BTreeSet::new();
    while renewals.len() < 12 {
        let (until, lost): (String, i64) = sqlx::query_as(
            "select max(expires_at)::text, count(*) filter (where expires_at < now() or epoch > 1) from relay_leases",
        )
        .fetch_one(&owner)
        .await
        .unwrap();
        assert_eq!(lost, 0, "leases ran out after {} renewals", renewals.len());
        renewals.insert(until);
        tokio::task::yield_now().await;
    }
    assert_eq!(published(&world).await, 0);
    limit_records(&world, "4194304").await;
    assert!(log.wait_published(&log.heads().await.unwrap(), DEADLINE).await.unwrap());
    assert_eq!(consumed(&world), (world.everything().await, 0));
    stop.cancel();
    relay.await.unwrap();
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
    let partition = partition_of(id, common::PARTITIONS);
    let events = world.everything().await.swap_remove(usize::try_from(partition).unwrap());
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &world.kafka).create().unwrap();
    for zombie in &events[..20] {
        produce(&producer, &world, zombie).await;
    }
    let tails = kafka::tail_positions(&world.kafka, &world.topic, common::PARTITIONS, DEADLINE).await.unwrap();
    assert_eq!(tails[usize::try_from(partition).unwrap()], Some(30));
    assert_eq!(tails.iter().flatten().count(), 1);
    let relay = world.relay();
    appended(log.append(append(vec![event("Patient", id, 31, id)])).await.unwrap());
    assert!(log.wait_published(&[(partition, 31)], DEADLINE).await.unwrap());
    let (kept, repeats) = consumed(&world);
    assert_eq!((kept, repeats), (world.everything().await, 20));
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
