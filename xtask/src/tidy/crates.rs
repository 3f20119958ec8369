//! Which crate may lean on which: dependencies point inward and never back.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Finding;

/// One of our crates and those of ours that it may use in what it ships.
const MAY_USE: [(&str, &[&str]); 12] = [
    ("nexus-domain", &[]),
    // Only for the relay process: telemetry, health and shutdown are the same in every service.
    ("nexus-event-store", &["nexus-web"]),
    ("nexus-auth", &[]),
    ("nexus-issuer", &["nexus-auth", "nexus-web"]),
    ("nexus-web", &["nexus-auth"]),
    ("nexus-access-log", &["nexus-event-store", "nexus-auth", "nexus-web"]),
    ("nexus-command-api", &["nexus-domain", "nexus-event-store", "nexus-access-log", "nexus-auth", "nexus-web"]),
    ("nexus-projections", &["nexus-domain", "nexus-event-store", "nexus-access-log", "nexus-auth", "nexus-web"]),
    ("nexus-local", &[]),
    (
        "nexus-cli",
        &["nexus-domain", "nexus-event-store", "nexus-projections", "nexus-command-api", "nexus-auth", "nexus-local"],
    ),
    ("nexus-testkit", &["nexus-event-store", "nexus-projections", "nexus-auth"]),
    ("xtask", &["nexus-command-api", "nexus-projections"]),
];

/// What reads a clock, a socket, a disk or a thread pool has no place where rules are decided.
const NOT_IN_DOMAIN: [&str; 12] = [
    "axum",
    "getrandom",
    "hyper",
    "moka",
    "postgres-es",
    "rdkafka",
    "reqwest",
    "sqlx",
    "tempfile",
    "tokio",
    "tower",
    "tracing-subscriber",
];

const SABOTAGE: &str = "sabotage";

/// A line of some crate's manifest.
pub struct Dependency {
    pub from: String,
    pub to: String,
    pub is_shipped: bool,
}

/// The manifests of our crates, as cargo reads them.
pub fn metadata(root: &Path) -> Result<Value> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("`cargo` is not installed")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The direct dependencies of our crates.
pub fn dependencies(metadata: &Value) -> Vec<Dependency> {
    let mut dependencies = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            dependencies.push(Dependency {
                from: text(&package["name"]),
                to: text(&dependency["name"]),
                is_shipped: dependency["kind"] != "dev",
            });
        }
    }
    dependencies
}

/// The feature that switches safeguards off is asked for on the command line of the mutation check, and nowhere else.
pub fn check_sabotage(metadata: &Value) -> Vec<Finding> {
    let has = |features: &Value| features.as_array().into_iter().flatten().any(|name| text(name).contains(SABOTAGE));
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let place = format!("{}/Cargo.toml", text(&package["name"]));
        for (feature, parts) in package["features"].as_object().into_iter().flatten() {
            if feature != SABOTAGE && has(parts) {
                findings.push(Finding::new(&place, format!("`{feature}` must not switch safeguards off")));
            }
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if has(&dependency["features"]) {
                let name = text(&dependency["name"]);
                findings.push(Finding::new(&place, format!("must not ask `{name}` to switch safeguards off")));
            }
        }
    }
    findings
}

pub fn check(dependencies: &[Dependency]) -> Vec<Finding> {
    let shipped = dependencies.iter().filter(|dependency| dependency.is_shipped);
    shipped
        .filter_map(|dependency| Some(Finding::new(format!("{}/Cargo.toml", dependency.from), fault(dependency)?)))
        .collect()
}

fn fault(dependency: &Dependency) -> Option<String> {
    let Dependency { from, to, .. } = dependency;
    if from == "nexus-domain" && NOT_IN_DOMAIN.contains(&to.as_str()) {
        return Some(format!("the domain is pure; `{to}` does I/O. Look things up before the command is built"));
    }
    let is_ours = to.starts_with("nexus-") || to == "xtask";
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| name == from) else {
        return Some("a new crate: give it a place in xtask/src/tidy/crates.rs".to_owned());
    };
    (is_ours && !allowed.contains(&to.as_str()))
        .then(|| format!("must not depend on `{to}`; see the crate map in ARCHITECTURE.md"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(from: &str, to: &str, is_shipped: bool) -> usize {
        check(&[Dependency { from: from.to_owned(), to: to.to_owned(), is_shipped }]).len()
    }

    #[test]
    fn the_direction_is_checked() {
        assert_eq!(findings("nexus-web", "nexus-auth", true), 0);
        assert_eq!(findings("nexus-auth", "nexus-web", true), 1);
        assert_eq!(findings("nexus-command-api", "nexus-projections", true), 1);
        assert_eq!(findings("nexus-event-store", "nexus-domain", true), 1);
        assert_eq!(findings("nexus-domain", "sqlx", true), 1);
        assert_eq!(findings("nexus-domain", "chrono", true), 0);
        assert_eq!(findings("nexus-unheard-of", "chrono", true), 1);
    }

    #[test]
    fn no_manifest_switches_safeguards_off() {
        let findings = |features: Value, asked: Value| {
            let dependency = serde_json::json!({"name": "nexus-event-store", "features": asked});
            let package = serde_json::json!({"name": "a", "features": features, "dependencies": [dependency]});
            check_sabotage(&serde_json::json!({"packages": [package]})).len()
        };
        assert_eq!(findings(serde_json::json!({"sabotage": ["nexus-event-store/sabotage"]}), Value::Null), 0);
        assert_eq!(findings(serde_json::json!({"default": ["sabotage"], "sabotage": []}), Value::Null), 1);
        assert_eq!(findings(serde_json::json!({"testing": ["nexus-event-store/sabotage"]}), Value::Null), 1);
        assert_eq!(findings(Value::Null, serde_json::json!(["sabotage"])), 1);
    }

    #[test]
    fn tests_may_use_the_testkit_and_nothing_else_may() {
        assert_eq!(findings("nexus-command-api", "nexus-testkit", false), 0);
        assert_eq!(findings("nexus-command-api", "nexus-testkit", true), 1);
    }
}
