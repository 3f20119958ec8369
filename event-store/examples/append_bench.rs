//! How many appends a second one writer takes: one sealed event of about 500 bytes and one idempotency row each.
//!
//! Reads NEXUS_TEST_POSTGRES and NEXUS_TEST_KAFKA, makes its own databases and topic, and drops the databases at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nexus_event_store::{
    Append, ClaimRules, EventLog, Expectation, IdempotencyKey, Keyring, LogConfig, MasterKey, Metadata, NewEvent,
    Outcome, PARTITIONS_DEFAULT, kafka, migrate_keys, migrate_log,
};
use serde_json::json;
use serde_json::value::to_raw_value;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use uuid::Uuid;

const SECONDS: u64 = 8;
const SUBJECTS: usize = 1_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server: PgConnectOptions = std::env::var("NEXUS_TEST_POSTGRES")?.parse()?;
    let kafka = std::env::var("NEXUS_TEST_KAFKA")?;
    let id = Uuid::new_v4().simple().to_string();
    let (topic, databases) = (format!("bench.{id}"), [format!("bench_log_{id}"), format!("bench_keys_{id}")]);
    let mut admin = PgConnection::connect_with(&server).await?;
    for database in &databases {
        admin.execute(&*format!("create database {database}")).await?;
    }
    let [log, keys] = databases.each_ref().map(|database| pool(server.clone().database(database)));
    migrate_log(&log, PARTITIONS_DEFAULT).await?;
    migrate_keys(&keys).await?;
    kafka::create_topic(&kafka, &topic, PARTITIONS_DEFAULT).await?;
    let keyring = Keyring::connect(keys.clone(), MasterKey::random()).await?;
    let config = LogConfig {
        log_pool: log.clone(),
        keyring,
        kafka: kafka.into(),
        topic,
        partitions: None,
        claims: ClaimRules::NONE,
    };
    let event_log = EventLog::connect(config).await?;

    let subjects: Vec<_> = (0..SUBJECTS).map(|_| Uuid::new_v4()).collect();
    event_log.keyring().ensure(&subjects).await?;
    for callers in [1, 64, 256, 64, 256] {
        run(&event_log, &subjects, callers).await?;
    }
    let (count, bytes): (i64, i64) =
        sqlx::query_as("select count(*), avg(octet_length(sealed))::bigint from events").fetch_one(&log).await?;
    report(&format!("{count} events of {bytes} sealed bytes on average"));
    drop(event_log);
    log.close().await;
    keys.close().await;
    for database in &databases {
        admin.execute(&*format!("drop database {database} with (force)")).await?;
    }
    Ok(())
}

fn pool(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new().max_connections(4).connect_lazy_with(options)
}

async fn run(log: &EventLog, subjects: &[Uuid], callers: usize) -> anyhow::Result<()> {
    let (started, appended) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (log, subject, appended) = (log.clone(), subjects[caller % subjects.len()], appended.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while started.elapsed() < Duration::from_secs(SECONDS) {
                    let asked = Instant::now();
                    let outcome = log.append(observation(subject)).await?;
                    anyhow::ensure!(matches!(outcome, Outcome::Appended(_)), "an append was refused");
                    latencies.push(asked.elapsed());
                    appended.fetch_add(1, Ordering::Relaxed);
                }
                Ok(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    latencies.sort_unstable();
    let rate = appended.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    let at = |share: usize| latencies.get(latencies.len() * share / 100).copied().unwrap_or_default();
    report(&format!("{callers:>4} callers: {rate:>7.0} appends/s, p50 {:?}, p99 {:?}", at(50), at(99)));
    Ok(())
}

fn observation(subject: Uuid) -> Append {
    let id = Uuid::new_v4();
    let stream = |sequence| Expectation::Stream { aggregate_type: "Observation".into(), aggregate_id: id, sequence };
    Append {
        idempotency: Some(IdempotencyKey { actor: "bench".into(), key: id.to_string(), fingerprint: [7; 32] }),
        response: json!({"status": 201, "location": format!("/v1/observations/{id}")}),
        expect: vec![stream(0)],
        take: vec![],
        release: vec![],
        events: vec![NewEvent {
            aggregate_type: "Observation".into(),
            aggregate_id: id,
            sequence: 1,
            subject,
            event_type: "Observation.Recorded".into(),
            event_version: "1.0".into(),
            source: None,
            payload: to_raw_value(&json!({"Recorded": {"resource": {"resourceType": "Observation", "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}]},
                "subject": {"reference": format!("Patient/{subject}")}, "effectiveDateTime": "2026-11-24T08:00:00Z",
                "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}}}}))
            .expect("a value is JSON"),
        }],
        metadata: Metadata { actor: "bench".into(), roles: vec!["nurse".into()], request_id: id.to_string() },
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark's output is what it prints")]
fn report(line: &str) {
    println!("{line}");
}
