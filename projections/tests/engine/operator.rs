//! What an operator does about parked events, with the program that operators have.

use std::process::{Command, Output};
use std::sync::Arc;

use clap::Parser;
use nexus_projections::ReadModel;
use nexus_projections::engine::{Engine, Projector, ProjectorConfig, migrate};
use nexus_projections::patient_chart::PatientChart;
use nexus_testkit::{Caller, Role, TestIssuer, eventually as found};
use nexus_web::server::bind;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{World, eventually};

async fn parked(world: &World, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_projector"));
    command.arg("parked").args(arguments).env_clear();
    command.env("NEXUS_READ_URL", world.url("nexus_projector", "read"));
    command.env("NEXUS_KEYS_URL", world.url("nexus_projector", "keys"));
    command.env("NEXUS_MASTER_KEY_FILE", world.master_key_file());
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn listed(world: &World) -> Vec<Value> {
    let output = parked(world, &["list", "--json"]).await;
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn entries(world: &World) -> i64 {
    sqlx::query_scalar("select count(*) from patient_chart_v4.entries").fetch_one(&world.read).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_events_are_listed_retried_and_given_up() {
    let world = World::new(5).await;
    migrate(&world.read).await.unwrap();
    let mut events = world.append(100).await;
    let victim = world.subjects[0];
    let of_victim: Vec<usize> = (0..100).filter(|index| events[*index].header.subject == victim).collect();
    let bad = of_victim[3];
    *events[bad].sealed.last_mut().unwrap() ^= 1;
    let (position, partition) = (events[bad].position, events[bad].partition);
    let engine = Engine::start(&world.config(), vec![Arc::new(PatientChart)]);
    world.produce(&events).await;
    let waiting = of_victim.len() - 3;
    eventually("the chart has the rest", async || entries(&world).await == 100 - waiting as i64).await;

    let list = listed(&world).await;
    assert_eq!(list.len(), 1, "{list:?}");
    let first = &list[0];
    assert_eq!(
        (first["readModel"].as_str(), first["version"].as_i64()),
        (Some("patient_chart"), Some(PatientChart.version().into()))
    );
    assert_eq!(first["subject"], victim.to_string());
    assert_eq!((first["partition"].as_i64(), first["position"].as_i64()), (Some(partition.into()), Some(position)));
    assert_eq!((first["reason"].as_str(), first["waiting"].as_u64()), (Some("envelope.broken"), Some(waiting as u64)));
    assert!(first["attempts"].as_i64() >= Some(1) && first["since"].is_string(), "{first}");
    assert_eq!(first["causes"], json!(["the event can't be read", "envelope.broken"]));
    let line = text(&parked(&world, &["list", "--read-model", "patient_chart"]).await);
    assert!(line.contains("because: the event can't be read"), "{line}");
    assert!(line.contains(&victim.to_string()) && line.contains("envelope.broken"), "{line}");
    assert_eq!(text(&parked(&world, &["list", "--read-model", "timeline"]).await), "nothing is parked\n");

    let (victim, at) = (victim.to_string(), position.to_string());
    let retry = ["retry", "--read-model", "patient_chart"];
    let still = parked(&world, &[&retry[..], &["--subject", &victim]].concat()).await;
    assert_eq!(still.status.code(), Some(1), "{}", text(&still));
    assert!(text(&still).contains("envelope.broken"), "{}", text(&still));
    let discard = ["discard", "--read-model", "patient_chart", "--subject", &victim, "--position", &at];
    assert!(parked(&world, &discard).await.status.success());
    assert!(!parked(&world, &discard).await.status.success(), "it is there only once");
    let retried = parked(&world, &retry).await;
    assert_eq!(text(&retried), format!("{victim}: {} applied\n", waiting - 1));
    assert!(retried.status.success());
    assert_eq!((listed(&world).await, entries(&world).await), (vec![], 99));

    let misspelt = parked(&world, &["list", "--read-model", "patient_chat"]).await;
    assert!(!misspelt.status.success() && text(&misspelt).contains("patient_chart"), "{}", text(&misspelt));
    engine.stop().await;
    world.gone().await;
}

/// A whole projector in this process; its address.
async fn projector(world: &World, issuer: &TestIssuer, stop: &CancellationToken) -> (String, JoinHandle<()>) {
    let (read, log, keys) = (
        world.url("nexus_projector", "read"),
        world.url("nexus_projector", "log"),
        world.url("nexus_projector", "keys"),
    );
    let (master, group) = (world.master_key_file().display().to_string(), format!("{}.", world.name));
    let arguments = [
        ("--listen", "127.0.0.1:0"),
        ("--read-url", &read),
        ("--log-url", &log),
        ("--keys-url", &keys),
        ("--master-key-file", &master),
        ("--kafka", &nexus_testkit::kafka_address()),
        ("--topic", &world.topic),
        ("--read-model", "patient_chart"),
        ("--group-prefix", &group),
        ("--issuer", issuer.url()),
    ];
    let arguments = ["projector"].into_iter().chain(arguments.into_iter().flat_map(|(name, value)| [name, value]));
    let config = ProjectorConfig::try_parse_from(arguments).unwrap();
    let listener = bind(config.listen).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (projector, stop) = (Projector::try_new(config).unwrap(), stop.clone());
    (url, tokio::spawn(async move { projector.run_until_stopped(listener, stop).await.unwrap() }))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_retries_and_gives_up_over_http() {
    let (world, issuer, stop) = (World::new(5).await, TestIssuer::start().await, CancellationToken::new());
    migrate(&world.read).await.unwrap();
    let mut events = world.append(100).await;
    let victim = world.subjects[0];
    let of_victim: Vec<usize> = (0..100).filter(|index| events[*index].header.subject == victim).collect();
    let bad = of_victim[3];
    *events[bad].sealed.last_mut().unwrap() ^= 1;
    let (position, waiting) = (events[bad].position, of_victim.len() - 3);
    let (url, running) = projector(&world, &issuer, &stop).await;
    world.produce(&events).await;
    eventually("the chart has the rest", async || entries(&world).await == 100 - waiting as i64).await;

    let retry = format!("/v1/parked/patient_chart/{victim}/retry");
    let discard = |position: i64| format!("/v1/parked/patient_chart/{victim}/discard?position={position}");
    let operator = Caller::with_token(&url, issuer.token(Role::Operator));
    let nothing = json!({});
    found("the issuer's keys are known", std::time::Duration::from_secs(60), async || {
        (operator.post(&retry, &nothing).await.status != 503).then_some(())
    })
    .await;
    // Nobody else may, whatever they may read.
    for path in [retry.clone(), discard(position)] {
        assert_eq!(Caller::anonymous(&url).post(&path, &nothing).await.status, 401);
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Operator) {
            let status = Caller::with_token(&url, issuer.token(role)).post(&path, &nothing).await.status;
            assert_eq!(status, 403, "{role} {path}");
        }
    }
    let still = operator.post(&retry, &nothing).await.expect(200).json();
    assert_eq!(still, json!({"applied": 0, "stoppedAt": {"position": position, "reason": "envelope.broken"}}));
    assert_eq!(operator.post(&discard(position + 1_000), &nothing).await.status, 404, "it is not parked");
    assert_eq!(operator.post(&format!("/v1/parked/patient_chat/{victim}/retry"), &nothing).await.status, 404);
    assert_eq!(operator.post(&discard(position), &nothing).await.expect(200).json(), json!({"position": position}));
    let retried = operator.post(&retry, &nothing).await.expect(200).json();
    assert_eq!(retried, json!({"applied": waiting - 1, "stoppedAt": null}));
    assert_eq!((listed(&world).await, entries(&world).await), (vec![], 99));
    stop.cancel();
    running.await.unwrap();
    world.gone().await;
}
