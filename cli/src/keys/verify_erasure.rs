//! `nexus keys verify-erasure ID`: looks for a patient in every store of the local stack.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use nexus_event_store::{Keyring, MasterKey};
use serde::Serialize;
use uuid::Uuid;

use super::erasure_checks::{self, Erased};
use crate::output;
use crate::stack::{Stack, TOPIC, connect_as_owner};

#[derive(Args)]
pub struct Options {
    /// The patient's id.
    pub id: Uuid,
    /// A file with the signed receipt (the `jws` of `GET /v1/patients/ID/erasure`): checked as well.
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// One thing that was looked for.
#[derive(Debug, Serialize)]
pub struct Check {
    pub store: &'static str,
    /// What must be so.
    pub what: String,
    pub ok: bool,
    /// What was found instead, or how much was looked at.
    pub found: String,
}

#[derive(Serialize)]
struct Report {
    subject: Uuid,
    /// Everything that must be so is so.
    erased: bool,
    checks: Vec<Check>,
}

pub async fn run(stack: impl FnOnce() -> Result<Stack>, options: &Options) -> Result<ExitCode> {
    let stack = stack()?;
    let checks = check(&stack, options).await?;
    let report = Report { subject: options.id, erased: checks.iter().all(|check| check.ok), checks };
    if options.json {
        output::line(serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(if report.erased { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn check(stack: &Stack, options: &Options) -> Result<Vec<Check>> {
    let log = connect_as_owner(stack, "nexus_log").await?;
    let keys = connect_as_owner(stack, "nexus_keys").await?;
    let read = connect_as_owner(stack, "nexus_read").await?;
    let Some(erased) = Erased::find(&log, options.id).await? else {
        let (what, found) = ("the log has the event that erases the patient".to_owned(), "it has none".to_owned());
        return Ok(vec![Check { store: "nexus_log", what, ok: false, found }]);
    };
    let keyring = Keyring::connect(keys.clone(), MasterKey::from_file(stack.secret_file("master.key"))?).await?;
    let mut checks = erasure_checks::log(&log, &erased).await?;
    checks.extend(erasure_checks::keys(&keys, &keyring, &erased).await?);
    checks.extend(erasure_checks::read_models(&read, &keyring, &erased).await?);
    checks.push(erasure_checks::kafka(&stack.kafka_args(), TOPIC, &keyring, &erased).await?);
    if let Some(file) = &options.receipt {
        let jws = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
        checks.push(erasure_checks::receipt(&keyring, &erased, &jws));
    }
    Ok(checks)
}

fn print(report: &Report) {
    for check in &report.checks {
        let mark = if check.ok { "✓" } else { "✗" };
        output::line(format_args!("  {mark} {}: {} ({})", check.store, check.what, check.found));
    }
    let verdict = if report.erased { "is erased" } else { "is NOT erased everywhere" };
    output::line(format_args!("{} {verdict}", report.subject));
}
