//! What the access log costs a read: the same reads through three doors in turns, on the same data.
//!
//! `cargo run --release -p nexus-projections --example access_bench`, or with `-- --rounds 12 --seconds 5 --callers 64`.
//! It starts a Postgres (durable) and a Kafka of its own, in a folder that goes away with it, and needs both installed.
//!
//! - **off**: no access log.
//! - **door**: accesses are recorded; nobody reads the log. What the door and the store pay.
//! - **all**: relay and projector of the access log work beside the door, on the same cores, until they are level. In
//!   production they are processes of their own, and may have cores of their own.
//!
//! Requests are handed to the router without sockets in between, so that a read costs as little as it can, and the share of
//! the log is as large as it can be. Processor time per read is what to believe on a machine that does other things, too.
//! With all cores busy, throughput is cores divided by it.

#![expect(clippy::unwrap_used, reason = "a measurement that can't go on ends")]
#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]
#![allow(dead_code, unused_imports, reason = "the world is the tests'")]

#[path = "../../tests/query/access_log.rs"]
mod access_log;
mod cpu;
#[path = "../../tests/query/world.rs"]
mod world;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use access_log::AccessWorld;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use clap::Parser;
use cpu::{Servers, Used};
use nexus_access_log::Recorder;
use nexus_auth::Role;
use nexus_local::{Authentication, Durability, Kafka, Lifetime, Postgres, free_ports, jars};
use nexus_projections::query_api::QueryService;
use nexus_testkit::{TestDatabase, TestTopic, kafka_address};
use serde_json::json;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use uuid::Uuid;
use world::{World, config, patient, reference};

const PATIENTS: usize = 100;
const OBSERVATIONS: usize = 20;
/// What is read, in turns.
const VIEWS: [&str; 3] = ["chart", "vital-signs", "timeline"];
const KINDS: [&str; 3] = ["off", "door", "all"];
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures what the access log costs a read.
#[derive(Parser)]
struct Options {
    /// How often each door is measured.
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// How long a door is read through in each round, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Callers who read one thing after another.
    #[arg(long, default_value_t = 64)]
    callers: usize,
    /// Process ids of the servers, for the process that measures.
    #[arg(long, hide = true, num_args = 2)]
    servers: Vec<i32>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let [postgres, kafka] = options.servers[..] {
        tokio::runtime::Runtime::new().unwrap().block_on(compare(&options, Servers { postgres, kafka }));
        return ExitCode::SUCCESS;
    }
    with_servers()
}

/// Starts the servers, and this program again: it finds them in its environment, as a test does.
fn with_servers() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let jars = jars::fetch(&root.join("infra/kafka/pom.xml"), &root.join(".nexus/cache"), "kafka").unwrap();
    // The account of PostgreSQL has to get in.
    let folder = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o711)).tempdir().unwrap();
    let ports = free_ports(3).unwrap();
    let postgres = Postgres {
        tls: None,
        folder: folder.path().join("postgres"),
        port: ports[0],
        durability: Durability::Durable,
        authentication: Authentication::Trust,
        log: folder.path().join("postgres.log"),
    };
    let kafka = Kafka {
        tls: None,
        folder: folder.path().join("kafka"),
        port: ports[1],
        controller_port: ports[2],
        jars,
        log: folder.path().join("kafka.log"),
        detours: Vec::new(),
    };
    let (mut broker, mut server) = (kafka.start(Lifetime::Parent).unwrap(), postgres.start(Lifetime::Parent).unwrap());
    let status = Command::new(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1))
        .args(["--servers", &server.pid().to_string(), &broker.pid().to_string()])
        .env("NEXUS_TEST_POSTGRES", postgres.url("postgres", None, "postgres", None))
        .env("NEXUS_TEST_KAFKA", kafka.bootstrap())
        .status()
        .unwrap();
    broker.kill().unwrap();
    server.stop(Duration::from_secs(20)).unwrap();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A door, and the log it records in.
struct Door {
    router: Router,
    log: Option<PgPool>,
}

/// One door, measured once.
struct Phase {
    reads: usize,
    reads_per_second: f64,
    p99_ms: f64,
    batches: i64,
    used: Used,
}

async fn compare(options: &Options, servers: Servers) {
    let access = AccessWorld::new().await;
    let world = &access.world;
    let patients = Arc::new(seed(world).await);
    let token = world.issuer.token(Role::Physician);
    let (unread, topic) = (TestDatabase::log().await, TestTopic::create().await);
    let doors = [
        Door { router: service(world).await.router(&CancellationToken::new()), log: None },
        Door { router: recording(world, &unread, &topic).await, log: Some(unread.pool().await) },
        Door { router: world.door.clone(), log: Some(access.log.pool().await) },
    ];
    let measure = async |kind: usize, duration| {
        let (before, batches) = (servers.used(), batches(&doors[kind]).await);
        let mut phase = read(&doors[kind].router, &patients, &token, duration, options.callers).await;
        level(&access).await;
        phase.used = servers.used().since(&before);
        phase.batches = self::batches(&doors[kind]).await - batches;
        phase
    };
    for kind in 0..KINDS.len() {
        measure(kind, Duration::from_secs(2)).await;
    }
    let Options { rounds, seconds, callers, .. } = options;
    println!("{rounds} rounds of {seconds} s a door, {callers} callers; ms are of processor time per read\n");
    println!("       reads/s  p99 ms  process  postgres  kafka   total  reads per append");
    let mut phases: [Vec<Phase>; 3] = Default::default();
    for round in 0..*rounds {
        for turn in 0..KINDS.len() {
            // Whoever comes first gets no advantage from it.
            let kind = (round + turn) % KINDS.len();
            let phase = measure(kind, Duration::from_secs(*seconds)).await;
            print(KINDS[kind], &phase);
            phases[kind].push(phase);
        }
    }
    summarize(&phases);
    for door in doors {
        if let Some(log) = door.log {
            log.close().await;
        }
    }
    access.end().await;
}

fn print(kind: &str, phase: &Phase) {
    let each = |user: &str| phase.used.of(user) / phase.reads as f64;
    let appends = if phase.batches > 0 { phase.reads as f64 / phase.batches as f64 } else { 0.0 };
    println!(
        "{kind:5} {:8.0} {:7.1} {:8.3} {:9.3} {:6.3} {:7.3} {appends:8.1}",
        phase.reads_per_second,
        phase.p99_ms,
        each("this process"),
        each("postgres"),
        each("kafka"),
        each("")
    );
}

fn summarize(phases: &[Vec<Phase>; 3]) {
    println!("\nms of processor time per 1,000 reads, all rounds:");
    let totals = [0, 1, 2].map(|kind| {
        let mut used = Used::default();
        phases[kind].iter().for_each(|phase| used.add(&phase.used));
        (used, phases[kind].iter().map(|phase| phase.reads as f64).sum::<f64>() / 1_000.0)
    });
    println!("{:40} {:>8} {:>8} {:>8}", "", KINDS[0], KINDS[1], KINDS[2]);
    let mut users: Vec<&String> = totals.iter().flat_map(|(used, _)| used.0.keys()).collect();
    users.sort();
    users.dedup();
    for user in users {
        let of = |kind: usize| totals[kind].0.0.get(user).copied().unwrap_or_default() / totals[kind].1;
        println!("{user:40} {:8.1} {:8.1} {:8.1}", of(0), of(1), of(2));
    }
    for kind in [1, 2] {
        let paired = phases[0].iter().zip(&phases[kind]);
        let clock = paired.clone().map(|(off, on)| 1.0 - on.reads_per_second / off.reads_per_second).collect();
        let cpu = |phase: &Phase| phase.used.of("") / phase.reads as f64;
        let processor = paired.map(|(off, on)| 1.0 - cpu(off) / cpu(on)).collect();
        println!(
            "\n{}: throughput lost by processor time {}; by the clock {}",
            KINDS[kind],
            share(processor),
            share(clock)
        );
    }
}

/// Median and range, in percent.
fn share(mut shares: Vec<f64>) -> String {
    shares.sort_by(f64::total_cmp);
    let percent = |at: usize| 100.0 * shares[at];
    format!("{:.1} % ({:.1} to {:.1})", percent(shares.len() / 2), percent(0), percent(shares.len() - 1))
}

async fn service(world: &World) -> QueryService {
    let as_query = world.read_database.url("nexus_query").parse().unwrap();
    QueryService::new(&as_query, &config(&world.issuer), world.keyring.clone(), world.issuer.verifier().await)
}

async fn recording(world: &World, log: &TestDatabase, topic: &TestTopic) -> Router {
    let log = log.url("nexus_query").parse().unwrap();
    let recorder = Recorder::connect(log, kafka_address(), topic.name().to_owned(), world.keyring.clone());
    service(world).await.recording(recorder.await.unwrap()).router(&CancellationToken::new())
}

async fn seed(world: &World) -> Vec<Uuid> {
    let mut patients = Vec::new();
    for number in 0..PATIENTS {
        let id = Uuid::new_v4();
        let mut resources = vec![patient(id, &format!("Cormier{number}"), "Chi", "1959-07-30")];
        for day in 0..OBSERVATIONS {
            resources.push(json!({
                "resourceType": "Observation", "id": Uuid::new_v4(), "status": "final",
                "category": [{"coding": [{"code": "vital-signs"}]}],
                "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}]},
                "subject": reference("Patient", id), "effectiveDateTime": format!("2026-01-{:02}T08:00:00Z", day + 1),
                "valueQuantity": {"value": 60 + day, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
            }));
        }
        world.record(resources).await;
        patients.push(id);
    }
    // As autovacuum would have done by the time that anybody reads.
    sqlx::query("vacuum analyze").execute(&world.read).await.unwrap();
    patients
}

async fn read(door: &Router, patients: &Arc<Vec<Uuid>>, token: &str, duration: Duration, callers: usize) -> Phase {
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let running: Vec<_> = (0..callers)
        .map(|caller| {
            let (door, patients, token, stop) = (door.clone(), patients.clone(), token.to_owned(), stop.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                let mut turn = caller;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let path =
                        format!("/v1/patients/{}/{}", patients[turn % patients.len()], VIEWS[turn % VIEWS.len()]);
                    let request = Request::get(path).header("authorization", format!("Bearer {token}"));
                    let asked = Instant::now();
                    let response = door.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
                    assert!(response.status().is_success(), "{}", response.status());
                    axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
                    took.push(asked.elapsed());
                }
                took
            })
        })
        .collect();
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    for caller in running {
        took.extend(caller.await.unwrap());
    }
    took.sort();
    Phase {
        reads: took.len(),
        reads_per_second: took.len() as f64 / began.elapsed().as_secs_f64(),
        p99_ms: took[took.len() * 99 / 100].as_secs_f64() * 1_000.0,
        batches: 0,
        used: Used::default(),
    }
}

/// Events that the log of a door holds.
async fn batches(door: &Door) -> i64 {
    let Some(log) = &door.log else { return 0 };
    sqlx::query_scalar("select sum(position)::bigint from access.heads").fetch_one(log).await.unwrap()
}

/// Waits until the read model has every access that was opened, and how it ended.
async fn level(access: &AccessWorld) {
    let log = access.log.pool().await;
    let head = "select sum(position)::bigint from access.heads";
    let done = "select coalesce(sum(position), 0)::bigint from projection.checkpoints where read_model = 'access_log'";
    nexus_testkit::eventually("the access log is projected", PATIENCE, async || {
        let head: i64 = sqlx::query_scalar(head).fetch_one(&log).await.unwrap();
        let done: i64 = sqlx::query_scalar(done).fetch_one(&access.world.read).await.unwrap();
        (head == done).then_some(())
    })
    .await;
    log.close().await;
}
