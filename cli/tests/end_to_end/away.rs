//! A read model whose database is on a server of its own, and that server goes away: nobody else notices.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nexus_local::{Authentication, Durability, Lifetime, Postgres};
use nexus_projections::ReadModel as _;
use nexus_projections::engine::{Engine, migrate};
use nexus_projections::timeline::Timeline;
use sqlx::PgPool;

use crate::DEADLINE;
use crate::load::{Load, Measured, between, failed, quantile, said};
use crate::rows;
use crate::stack::Stack;

/// How long everything is well, and how long the server is away.
const PERIOD: Duration = Duration::from_secs(60);
/// Nobody else's read models are further behind than this while it is away.
const LAG_MAX: i64 = 500;

pub async fn leaves_the_others_alone(stack: Arc<Stack>, patients: &[&str]) {
    let folder = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o711)).tempdir();
    let folder = folder.unwrap();
    let server = Postgres {
        folder: folder.path().join("postgres"),
        port: nexus_local::free_ports(1).unwrap()[0],
        durability: Durability::Throwaway,
        authentication: Authentication::Trust,
        log: folder.path().join("postgres.log"),
        tls: None,
    };
    let start = || server.start(Lifetime::Parent).unwrap();
    let mut process = start();
    let far = PgPool::connect(&server.url("postgres", None, "postgres", None)).await.unwrap();
    migrate(&far).await.unwrap();
    let engine = Engine::start(&rows::config(&stack, &far).await, vec![Arc::new(Timeline)]);
    wait_until_level(&stack, &far).await;

    let load = Load::start(stack.clone(), patients).await;
    tokio::time::sleep(PERIOD).await;
    let gone = Instant::now();
    process.kill().unwrap();
    let mut most = 0;
    while gone.elapsed() < PERIOD {
        most = most.max(lag(&stack).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let back = Instant::now();
    let mut process = start();
    let Measured { commands, queries } = load.end().await;
    wait_until_level(&stack, &far).await;
    eprintln!("level again {:.1} s after the server was back", back.elapsed().as_secs_f64());
    engine.stop().await;
    let (before, during) = (between(&commands, gone - PERIOD, gone), between(&commands, gone, back));
    eprintln!("{}", said("before", &before, PERIOD));
    eprintln!("{}", said("while it was away", &during, back - gone));
    eprintln!("p99 {:.2} times", quantile(&during, 0.99) / quantile(&before, 0.99));
    eprintln!("the others were {most} events behind at most; {} queries", queries.len());
    assert_eq!((failed(&queries), failed(&commands)), (BTreeMap::new(), BTreeMap::new()));
    assert!(most < LAG_MAX, "another read model fell {most} events behind");
    let [here, there] = [stack.database("nexus_read").await, far.clone()];
    stack.wait_until_read_models_are_level().await;
    assert_eq!(rows::of_one(&here, &Timeline).await, rows::of_one(&there, &Timeline).await);
    far.close().await;
    process.kill().unwrap();
}

/// How far the furthest behind is, of what the stack itself serves.
async fn lag(stack: &Stack) -> i64 {
    let token = stack.token("operator");
    let request = stack.http.get(format!("{}/v1/read-models", stack.read_door())).bearer_auth(token);
    let lags: serde_json::Value = stack.send(request).await.json().await.unwrap();
    lags["items"].as_array().unwrap().iter().map(|it| it["lag"].as_i64().unwrap()).max().unwrap()
}

async fn wait_until_level(stack: &Stack, far: &PgPool) {
    let (heads, started) = (stack.heads().await, Instant::now());
    loop {
        let rows: Result<Vec<(i32, i64)>, _> =
            sqlx::query_as("select partition, position from projection.checkpoints where read_model = $1")
                .bind(Timeline.name())
                .fetch_all(far)
                .await;
        let rows = rows.unwrap_or_default();
        let is_level =
            |&(partition, head): &(i32, i64)| head == 0 || rows.iter().any(|row| row.0 == partition && row.1 >= head);
        if heads.iter().all(is_level) {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "it does not catch up: {rows:?} of {heads:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
