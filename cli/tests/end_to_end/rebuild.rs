//! Every read model filled anew beside the one that is served, by the command that operators have, while others go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::load::{Load, Measured, between, failed, quantile, said};
use crate::stack::Stack;

/// How long commands are sent before the rebuild begins, to compare with.
const BEFORE: Duration = Duration::from_secs(60);

/// Rebuilds all; each comes out equal and is switched to. Then the old ones go.
pub async fn comes_out_equal(stack: &Stack) {
    stack.wait_until_read_models_are_level().await;
    let printed = stack.nexus(&["projections", "rebuild", "all", "--json"]);
    let rebuilt = lines(&printed);
    assert_eq!(rebuilt.len(), nexus_projections::all_read_models().len());
    for it in &rebuilt {
        assert_eq!((&it["equal"], &it["switched"]), (&json!(true), &json!(true)), "{it}");
    }
    let versions: Value = serde_json::from_str(&stack.nexus(&["projections", "versions", "--json"])).unwrap();
    let kept: Vec<&Value> = versions.as_array().unwrap().iter().filter(|it| it["active"] == false).collect();
    assert_eq!(kept.len(), rebuilt.len(), "{versions}");
    for it in kept {
        let (name, version) = (it["readModel"].as_str().unwrap(), it["version"].to_string());
        stack.nexus(&["projections", "drop", name, "--version", &version]);
    }
    stack.ready_status().await;
}

fn lines(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The same under load, with figures: how long commands take with and without it. No query may fail.
pub async fn disturbs_nobody(stack: Arc<Stack>, patients: &[&str]) {
    let load = Load::start(stack.clone(), patients).await;
    tokio::time::sleep(BEFORE).await;
    let began = Instant::now();
    let rebuilding = stack.clone();
    let printed = tokio::task::spawn_blocking(move || {
        rebuilding.nexus(&["projections", "rebuild", "all", "--json", "--jobs", "1", "--share", "20"])
    });
    let printed = printed.await.unwrap();
    let ended = Instant::now();
    let Measured { commands, queries } = load.end().await;
    for it in lines(&printed) {
        let (name, seconds) = (it["readModel"].as_str().unwrap(), it["seconds"].as_f64().unwrap());
        eprintln!("{name:<20} {:>8} events  {seconds:>6.1} s", it["events"].to_string());
        assert_eq!((&it["equal"], &it["switched"]), (&json!(true), &json!(true)), "{it}");
    }
    let (before, during) = (between(&commands, began - BEFORE, began), between(&commands, began, ended));
    eprintln!("{}", said("before", &before, BEFORE));
    eprintln!("{}", said("during", &during, ended - began));
    eprintln!("p99 {:.2} times", quantile(&during, 0.99) / quantile(&before, 0.99));
    eprintln!("{} queries", queries.len());
    assert_eq!((failed(&queries), failed(&commands)), (BTreeMap::new(), BTreeMap::new()));
    assert!(queries.len() > 500, "too few to say anything");
}
