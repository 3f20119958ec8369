//! `nexus status`: what runs where, and whether it is ready.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;
use futures::future::join_all;
use nexus_local::postgres;
use serde::Serialize;

use super::state::State;
use super::{Service, Stack};
use crate::{args, http, output};

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Serialize)]
pub struct Report {
    pub ready: bool,
    pub state_dir: String,
    pub services: Vec<ServiceReport>,
}

#[derive(Serialize)]
pub struct ServiceReport {
    pub name: &'static str,
    pub url: String,
    pub pid: Option<i32>,
    pub ready: bool,
    pub version: Option<String>,
}

pub async fn status(stack: &Stack, options: &args::Status) -> Result<ExitCode> {
    let report = report(stack).await?;
    if options.json {
        output::line(serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(if report.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks every service now.
pub async fn report(stack: &Stack) -> Result<Report> {
    let state = State::load(stack);
    let ready = join_all(Service::of(stack).into_iter().map(|service| is_ready(stack, service))).await;
    let services: Vec<ServiceReport> = Service::of(stack)
        .into_iter()
        .zip(ready)
        .map(|(service, answers)| {
            let pid = state.process(service).map(|process| process.pid);
            // Something else may answer on the port of a service that does not run.
            let ready = answers && pid.is_some();
            ServiceReport {
                name: service.name(),
                url: service.url(stack.ports),
                pid,
                ready,
                version: version(stack, service),
            }
        })
        .collect();
    // Without a supervisor nothing comes back when it dies.
    let ready = state.is_supervised() && services.iter().all(|service| service.ready);
    Ok(Report {
        ready,
        state_dir: stack.folder.canonicalize().unwrap_or(stack.folder.clone()).display().to_string(),
        services,
    })
}

pub async fn is_ready(stack: &Stack, service: Service) -> bool {
    let port = service.port(stack.ports);
    match service {
        Service::Postgres => blocking(move || postgres::is_ready(port)).await,
        Service::Kafka => match stack.kafka() {
            Ok(kafka) => blocking(move || kafka.is_ready(PROBE_TIMEOUT)).await,
            Err(_) => false,
        },
        Service::Keycloak => match stack.keycloak() {
            Ok(keycloak) => blocking(move || keycloak.is_ready()).await,
            Err(_) => false,
        },
        _ => answers_ready(stack, &format!("{}/readyz", service.url(stack.ports))).await,
    }
}

pub fn print(report: &Report) {
    output::line(format_args!("  {:<12} {:<26} {:>8}  {:<9} state", "service", "address", "pid", "version"));
    for service in &report.services {
        let pid = service.pid.map_or("-".to_owned(), |pid| pid.to_string());
        let version = service.version.as_deref().unwrap_or("-");
        let state = if service.ready { "ready" } else { "not ready" };
        output::line(format_args!("  {:<12} {:<26} {pid:>8}  {version:<9} {state}", service.name, service.url));
    }
    if !report.ready && report.services.iter().all(|service| service.ready) {
        output::line("  the supervisor does not run: nothing that dies is started again; `up` starts it");
    }
    output::line(format_args!("  state in {}", report.state_dir));
}

async fn blocking(probe: impl FnOnce() -> bool + Send + 'static) -> bool {
    tokio::task::spawn_blocking(probe).await.unwrap_or(false)
}

async fn answers_ready(stack: &Stack, url: &str) -> bool {
    let Ok(client) = http::client(Some(stack)) else { return false };
    let response = client.get(url).timeout(PROBE_TIMEOUT).send().await;
    response.is_ok_and(|response| response.status().is_success())
}

fn version(stack: &Stack, service: Service) -> Option<String> {
    match service {
        Service::Postgres => postgres::version().ok(),
        Service::Kafka => stack.kafka().ok()?.version().ok(),
        Service::Keycloak => stack.keycloak().ok()?.version().ok(),
        _ => version_of_program(stack, service),
    }
}

fn version_of_program(stack: &Stack, service: Service) -> Option<String> {
    let output = Command::new(stack.home.program(service.name()).ok()?).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().last().map(str::to_owned)
}
