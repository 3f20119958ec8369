//! The read door as a real process, really killed (SIGKILL): no read is without a record, and no record without a read.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::http::Method;
use nexus_access_log::Batch;
use nexus_auth::Role;
use nexus_testkit::{Caller, eventually, kafka_address};
use uuid::Uuid;

use crate::access_log::{AccessWorld, payloads};
use crate::world::patient;

const PATIENCE: Duration = Duration::from_secs(60);
/// Reads that are answered before each kill, and reads that are being worked on when it comes.
const ANSWERED: usize = 150;
const IN_FLIGHT: usize = 20;
const KILLS: usize = 3;

struct Door(Child);

impl Door {
    fn start(access: &AccessWorld, address: &str) -> Self {
        let world = &access.world;
        let child = Command::new(env!("CARGO_BIN_EXE_query-api"))
            .env("NEXUS_LISTEN", address)
            .env("NEXUS_READ_URL", world.read_database.url("nexus_query"))
            .env("NEXUS_KEYS_URL", world.keys_database.url("nexus_query"))
            .env("NEXUS_LOG_URL", access.log.url("nexus_query"))
            .env("NEXUS_KAFKA", kafka_address())
            .env("NEXUS_ACCESS_TOPIC", access.topic.name())
            .env("NEXUS_MASTER_KEY_FILE", world.master_key_file())
            .env("NEXUS_ISSUER", world.issuer.url())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // SIGKILL; one that is gone already is fine.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// How many openings the log holds.
async fn opened(access: &AccessWorld) -> usize {
    let payloads = payloads(&access.world, &access.log).await.into_iter();
    payloads.map(|payload| serde_json::from_value::<Batch>(payload).unwrap().opened.len()).sum()
}

/// How many accesses the read model knows: all that are opened, and of these the ones that were never completed.
async fn known(access: &AccessWorld) -> (usize, usize) {
    let sql = "select count(*), count(*) filter (where outcome is null)
               from access_log_v1.accesses where opened_at is not null";
    let (all, unknown): (i64, i64) = sqlx::query_as(sql).fetch_one(&access.world.read).await.unwrap();
    (usize::try_from(all).unwrap(), usize::try_from(unknown).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_under_kill_9_leave_exactly_as_many_records() {
    let access = AccessWorld::new().await;
    let id = Uuid::new_v4();
    access.world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let caller = Caller::with_token(format!("http://{address}"), access.world.issuer.token(Role::Nurse));
    let path = format!("/v1/patients/{id}/chart");
    let mut answered = BTreeSet::new();
    for kill in 1..=KILLS {
        let door = Door::start(&access, &address);
        let anonymous = Caller::anonymous(format!("http://{address}"));
        eventually("the door is ready", PATIENCE, async || {
            let answer = anonymous.request(Method::GET, "/readyz").try_answer().await;
            answer.is_ok_and(|answer| answer.status.is_success()).then_some(())
        })
        .await;
        let reads = (0..ANSWERED).map(|_| caller.request(Method::GET, &path).answer());
        for answer in futures::future::join_all(reads).await {
            let answer = answer.expect(200);
            answered.insert(answer.headers["x-request-id"].to_str().unwrap().parse::<Uuid>().unwrap());
        }
        // These wait for a position that nobody has, so they are being worked on when the door is killed.
        let before = opened(&access).await;
        let waiting: Vec<_> = (0..IN_FLIGHT)
            .map(|_| {
                let request = caller.request(Method::GET, &format!("{path}?position=0-999999"));
                tokio::spawn(async move { request.try_answer().await.is_ok() })
            })
            .collect();
        eventually("they are opened", PATIENCE, async || (opened(&access).await == before + IN_FLIGHT).then_some(()))
            .await;
        drop(door);
        for waiting in waiting {
            assert!(!waiting.await.unwrap(), "nobody answers a position that does not exist before the kill");
        }
        let expected = kill * (ANSWERED + IN_FLIGHT);
        eventually("every read has its record", PATIENCE, async || (known(&access).await.0 == expected).then_some(()))
            .await;
    }
    assert_eq!(answered.len(), KILLS * ANSWERED);
    let recorded: Vec<Uuid> = sqlx::query_scalar("select id from access_log_v1.accesses where opened_at is not null")
        .fetch_all(&access.world.read)
        .await
        .unwrap();
    let recorded = BTreeSet::from_iter(recorded);
    assert!(answered.is_subset(&recorded), "an answer without a record");
    let (all, unknown) = known(&access).await;
    assert_eq!(all, KILLS * (ANSWERED + IN_FLIGHT), "exactly as many records as reads");
    assert!(unknown >= KILLS * IN_FLIGHT, "{unknown}: what was being worked on has an unknown outcome");
    access.end().await;
}
