//! What the access log costs: reads per second of the same door with and without it, in turns, on the same data.
//!
//! `cargo run --release -p nexus-projections --example access_bench -- [ROUNDS] [SECONDS] [CALLERS]`, with
//! `NEXUS_TEST_POSTGRES` and `NEXUS_TEST_KAFKA` as for the tests. The requests are handed to the router without sockets in
//! between, so that a read costs as little as it can and the log's share is as large as it can be. Relay and projector of the
//! access log work meanwhile, on the same cores.

#![expect(clippy::unwrap_used, reason = "a measurement that can't go on ends")]
#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]
#![allow(dead_code, unused_imports, reason = "the world is the tests'")]

#[path = "../tests/query/access_log.rs"]
mod access_log;
#[path = "../tests/query/world.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use access_log::AccessWorld;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use nexus_auth::Role;
use nexus_projections::query_api::QueryService;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use uuid::Uuid;
use world::{config, patient, reference};

const PATIENTS: usize = 100;
const OBSERVATIONS: usize = 20;
/// What is read, in turns.
const VIEWS: [&str; 3] = ["chart", "vital-signs", "timeline"];

#[tokio::main]
async fn main() {
    let argument = |at, default: u32| std::env::args().nth(at).map_or(default, |text| text.parse().unwrap());
    let (rounds, seconds, callers) = (argument(1, 6), argument(2, 5).into(), argument(3, 64) as usize);
    let access = AccessWorld::new().await;
    let patients = Arc::new(seed(&access).await);
    let token = access.world.issuer.token(Role::Physician);
    let as_query = access.world.read_database.url("nexus_query").parse().unwrap();
    let settings = config(&access.world.issuer);
    let verifier = access.world.issuer.verifier().await;
    let without = QueryService::new(&as_query, &settings, access.world.keyring.clone(), verifier);
    let without = without.router(&CancellationToken::new());
    for door in [&without, &access.world.door] {
        measure(door, &patients, &token, Duration::from_secs(2), callers).await;
    }
    println!("{rounds} rounds of {seconds} s, {callers} callers: reads per second and p99 in ms");
    let mut shares = Vec::new();
    for round in 0..rounds {
        let duration = Duration::from_secs(seconds);
        // Whoever comes first gets no advantage from it.
        let (off, on) = if round % 2 == 0 {
            let off = measure(&without, &patients, &token, duration, callers).await;
            (off, measure(&access.world.door, &patients, &token, duration, callers).await)
        } else {
            let on = measure(&access.world.door, &patients, &token, duration, callers).await;
            (measure(&without, &patients, &token, duration, callers).await, on)
        };
        let behind = behind(&access).await;
        println!(
            "off {:.0}/s {:.1} ms   on {:.0}/s {:.1} ms   records not projected yet: {behind}",
            off.0, off.1, on.0, on.1
        );
        shares.push(1.0 - on.0 / off.0);
    }
    shares.sort_by(f64::total_cmp);
    println!(
        "throughput lost: median {:.1} %, from {:.1} % to {:.1} %",
        100.0 * shares[shares.len() / 2],
        100.0 * shares[0],
        100.0 * shares[shares.len() - 1]
    );
    access.end().await;
}

async fn seed(access: &AccessWorld) -> Vec<Uuid> {
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
        access.world.record(resources).await;
        patients.push(id);
    }
    patients
}

/// Reads per second, and the 99th percentile of their durations in milliseconds.
async fn measure(
    door: &Router,
    patients: &Arc<Vec<Uuid>>,
    token: &str,
    duration: Duration,
    callers: usize,
) -> (f64, f64) {
    let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let running: Vec<_> = (0..callers)
        .map(|caller| {
            let (door, patients, token) = (door.clone(), patients.clone(), token.to_owned());
            let (stop, reads) = (stop.clone(), reads.clone());
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
                    reads.fetch_add(1, Ordering::Relaxed);
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
    let p99 = took[took.len() * 99 / 100].as_secs_f64() * 1_000.0;
    (reads.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64(), p99)
}

/// Batches of the log that the read model has not applied.
async fn behind(access: &AccessWorld) -> i64 {
    let log = access.log.pool().await;
    let head: i64 = sqlx::query_scalar("select sum(position)::bigint from access.heads").fetch_one(&log).await.unwrap();
    log.close().await;
    let sql = "select coalesce(sum(position), 0)::bigint from projection.checkpoints where read_model = 'access_log'";
    head - sqlx::query_scalar::<_, i64>(sql).fetch_one(&access.world.read).await.unwrap()
}
