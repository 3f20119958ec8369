//! What an operator does about parked events, with the program that operators have.

use std::process::{Command, Output};
use std::sync::Arc;

use nexus_projections::ReadModel;
use nexus_projections::engine::{Engine, migrate};
use nexus_projections::patient_chart::PatientChart;
use serde_json::Value;

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
    sqlx::query_scalar("select count(*) from patient_chart_v3.entries").fetch_one(&world.read).await.unwrap()
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
    let line = text(&parked(&world, &["list", "--read-model", "patient_chart"]).await);
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
