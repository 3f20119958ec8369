//! One minute of `nexus chaos`: real processes, real faults, every check.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// In its minute processes are killed and paused, links cut, disks filled, and both servers restarted.
const SEED: &str = "30";
/// Far below what a machine of one's own does, and enough to have something to lose: others may be at work here.
const LEAST_OPERATIONS_PER_SECOND: &str = "10";

#[test]
fn a_minute_of_faults_loses_repeats_and_disorders_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_nexus"));
    command.args(["chaos", "--seed", SEED, "--minutes", "1", "--json", "--ops-per-second", "200", "--clients", "64"]);
    command.args(["--min-ops-per-second", LEAST_OPERATIONS_PER_SECOND]).arg("--report").arg(folder.path());
    command.env("NEXUS_HOME", Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")));
    command.env("NEXUS_DIES_WITH", std::process::id().to_string()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let (told, noted) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "seed {SEED}:\n{told}\n{noted}");

    let report = std::fs::read(folder.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["held"], Value::Bool(true));
    assert!(!report["faults"].as_object().unwrap().is_empty(), "{told}");
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("{throughput}"));
}

#[test]
fn a_seed_has_one_plan() {
    let plan = |seed: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nexus"));
        command.args(["chaos", "--plan", "--seed", seed]);
        let output = command.env("NEXUS_HOME", Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))).output().unwrap();
        assert!(output.status.success());
        output.stdout
    };
    assert_eq!(plan("7"), plan("7"));
    assert_ne!(plan("7"), plan("8"));
}
