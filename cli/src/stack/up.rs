//! `nexus up`, step by step. Every step finds what an earlier run has done and goes on from there.

use std::net::TcpListener;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nexus_local::{Ports, jars, keycloak, wait_until};
use nexus_projections::engine::rebuild;
use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;

use super::state::{Lock, State, supervisor_runs};
use super::{IdentityProvider, Secrets, Service, Stack, certificates, database, down, identity, logs, status, tour};
use crate::{args, import, output};

const FOUNDATION_DEADLINE: Duration = Duration::from_secs(120);
const SERVICES_DEADLINE: Duration = Duration::from_secs(120);
/// How long a service of an older version may take to finish its work.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// How long the supervisor may take to show itself.
const SUPERVISOR_DEADLINE: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A service that was started again this often while `up` waits is not going to come up.
const RESTARTS_MAX: u64 = 8;

pub async fn up(stack: &Stack, options: &args::Up) -> Result<ExitCode> {
    let started = Instant::now();
    check_programs(stack)?;
    let _lock = Lock::up(stack)?.context("another `up` of this stack is running")?;
    if options.fresh && stack.folder.exists() {
        output::step("old state deleted", delete(stack)).await?;
    }
    stack.make_folders()?;
    let secrets = Secrets::load_or_generate(stack)?;
    let is_new = !stack.authority_file().exists();
    let renewed = certificates::ensure(stack)?;

    output::step("Apache Kafka at hand", fetch_kafka(stack)).await?;
    if is_supervisor_outdated(stack)? {
        output::step("processes of an older version stopped", down::stop(stack)).await?;
    }
    if is_new && supervisor_runs(stack)? {
        // They were started without certificates, or with those of another authority.
        output::step("processes without certificates stopped", down::stop(stack)).await?;
    } else if !renewed.is_empty() && supervisor_runs(stack)? {
        let stack = stack.clone();
        tokio::task::spawn_blocking(move || certificates::announce(&stack)).await??;
    }
    choose_identity_provider(stack, options).await?;
    start_supervisor(stack)?;
    let foundations = [Service::Postgres, Service::Kafka];
    output::step("PostgreSQL and Kafka ready", wait_ready(stack, &foundations, FOUNDATION_DEADLINE)).await?;
    output::step("databases, roles, schemas, topics", prepare(stack, &secrets)).await?;
    restart_outdated(stack).await?;
    bring_read_models_up_to_date(stack, &secrets).await?;
    output::step("services ready", wait_ready(stack, &Service::of(stack), services_deadline(stack))).await?;
    if !options.no_sample && !stack.sample_marker().exists() {
        load_sample(stack).await?;
    }
    output::line(format_args!("  ready after {}\n", output::seconds(started.elapsed())));
    tour::print(stack).await?;
    Ok(ExitCode::SUCCESS)
}

/// A stack keeps its identity provider until it is told otherwise; then everything starts anew, to believe the other's tokens.
async fn choose_identity_provider(stack: &Stack, options: &args::Up) -> Result<()> {
    let chosen = options.idp.unwrap_or_else(|| stack.identity_provider());
    if chosen != stack.identity_provider() {
        output::step("processes with the other identity provider stopped", down::stop(stack)).await?;
        stack.choose(chosen)?;
    }
    if chosen == IdentityProvider::Keycloak {
        output::step("Keycloak at hand", identity::prepare_keycloak(stack)).await?;
    }
    Ok(())
}

/// What another version of this program has filled is filled anew, beside it; the log tells all that it takes.
async fn bring_read_models_up_to_date(stack: &Stack, secrets: &Secrets) -> Result<()> {
    let outdated = rebuild::outdated(&database::connect(stack, secrets, "nexus_migrator", "nexus_read").await?).await?;
    if outdated.is_empty() {
        return Ok(());
    }
    let sources = database::rebuild_sources(stack).await?;
    let filled =
        async { rebuild::upgrade(&sources, &outdated, &mut std::io::stdout(), &CancellationToken::new()).await };
    output::step("read models of this version filled", filled).await
}

fn services_deadline(stack: &Stack) -> Duration {
    match stack.identity_provider() {
        IdentityProvider::Auth => SERVICES_DEADLINE,
        IdentityProvider::Keycloak => keycloak::START_DEADLINE,
    }
}

async fn delete(stack: &Stack) -> Result<()> {
    down::stop(stack).await?;
    std::fs::remove_dir_all(&stack.folder).with_context(|| format!("can't delete {}", stack.folder.display()))
}

/// Kafka's jars, in the cache of this checkout.
pub async fn fetch_kafka(stack: &Stack) -> Result<()> {
    let (pom, cache) = (stack.home.path("infra/kafka/pom.xml"), stack.home.cache()?);
    if !jars::folder(&pom, &cache, "kafka")?.exists() {
        output::note("  fetching Apache Kafka from Maven Central, once for this checkout; that may take minutes");
    }
    tokio::task::spawn_blocking(move || jars::fetch(&pom, &cache, "kafka")).await??;
    Ok(())
}

/// Whether the program of the supervisor was built anew since it started.
fn is_supervisor_outdated(stack: &Stack) -> Result<bool> {
    let program = stack.home.program("nexus")?;
    let supervisor = State::load(stack).supervisor.filter(|supervisor| supervisor.is_alive());
    Ok(supervisor.is_some_and(|supervisor| !supervisor.runs(&program)))
}

/// Starts the background process, unless one runs.
fn start_supervisor(stack: &Stack) -> Result<()> {
    if supervisor_runs(stack)? {
        return Ok(());
    }
    super::supervisor::stop_leftovers(stack);
    State::default().store(stack)?;
    check_ports(stack)?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(stack.log_file("supervisor"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("--port-base")
        .arg(stack.ports.base.to_string())
        .arg("--home")
        .arg(stack.home.path(""))
        .arg("supervise");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(&stack.folder);
    command.spawn().context("can't start the supervisor")?;
    Ok(())
}

/// A missing program is easier to understand here than in the log of the supervisor.
fn check_programs(stack: &Stack) -> Result<()> {
    let own = Service::of(stack).into_iter().filter(|service| service.is_own());
    own.map(Service::name).try_for_each(|name| stack.home.program(name).map(drop))
}

/// A taken port is easier to understand here than in the log of the service that wanted it.
fn check_ports(stack: &Stack) -> Result<()> {
    let base = stack.ports.base;
    for port in stack.ports.all() {
        if TcpListener::bind(("127.0.0.1", port)).is_err() {
            let other = base.checked_add(100).filter(|base| *base <= Ports::BASE_MAX).unwrap_or(Ports::DEFAULT_BASE);
            bail!("port {port} is in use; stop what uses it, or choose other ports: ./nexus up --port-base {other}");
        }
    }
    Ok(())
}

async fn wait_ready(stack: &Stack, services: &[Service], deadline: Duration) -> Result<()> {
    let started = Instant::now();
    let before = State::load(stack);
    for &service in services {
        while !(State::load(stack).process(service).is_some() && status::is_ready(stack, service).await) {
            check_progress(stack, service, &before, started.elapsed(), deadline)?;
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
    Ok(())
}

fn check_progress(stack: &Stack, service: Service, before: &State, waited: Duration, deadline: Duration) -> Result<()> {
    // A supervisor that runs for long has started many a service again; only what happens now counts.
    let restarts = State::load(stack).restarts(service).saturating_sub(before.restarts(service));
    let abandoned = waited > SUPERVISOR_DEADLINE && !supervisor_runs(stack)?;
    let culprit = if abandoned { "supervisor" } else { service.name() };
    if abandoned || waited > deadline || restarts > RESTARTS_MAX {
        let log = stack.log_file(culprit);
        bail!("{culprit} does not become ready; the end of {}:\n{}", log.display(), logs::tail(&log, 15));
    }
    Ok(())
}

async fn prepare(stack: &Stack, secrets: &Secrets) -> Result<()> {
    database::create(stack, secrets).await?;
    database::migrate(stack, secrets).await?;
    database::create_topics(stack).await?;
    std::fs::write(stack.prepared_marker(), "")?;
    Ok(())
}

/// Services whose program was built anew since they started: they are asked to stop, and the supervisor starts the new
/// one. Until the old one is gone, it would pass for ready.
async fn restart_outdated(stack: &Stack) -> Result<()> {
    let state = State::load(stack);
    let mut stopping = Vec::new();
    for service in Service::ALL.into_iter().filter(|service| service.is_own()) {
        let Some(process) = state.process(service) else { continue };
        if !process.runs(&stack.home.program(service.name())?) {
            process.signal(Signal::SIGTERM);
            stopping.push(process);
        }
    }
    let is_over = move || Ok(!stopping.iter().any(|process| process.is_alive()));
    tokio::task::spawn_blocking(move || wait_until("the end of the older services", STOP_DEADLINE, is_over)).await?
}

async fn load_sample(stack: &Stack) -> Result<()> {
    let sample = vec![stack.home.path("sample")];
    let report = import::into_stack(stack, sample).await?;
    if report.refused > 0 {
        let first = report.refusals.first().map(|refusal| refusal.problem.as_str()).unwrap_or_default();
        bail!("{} resources of the sample were refused; the first: {first}", report.refused);
    }
    output::line(format_args!("  ✓ {} ({:.1} s)", report.sentence(), report.seconds));
    output::step("read models have seen all of it", tour::wait_for_read_models(stack)).await?;
    std::fs::write(stack.sample_marker(), "")?;
    Ok(())
}
