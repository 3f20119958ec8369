//! `nexus chaos`: runs real processes under a seeded schedule of faults, heals them, and checks that nothing was lost,
//! repeated or disordered.
//!
//! The seed decides the faults, their targets and their times before anything runs. What meets them does not repeat itself,
//! as machines and networks don't: a seed replays the faults, not the microseconds.

mod checks;
mod clients;
mod cluster;
mod disk;
mod evidence;
mod history;
mod inject;
mod link;
mod random;
mod report;
mod schedule;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use checks::{Breach, Evidence};
use clients::{Session, World};
use cluster::Cluster;
use evidence::Witness;
use inject::{Injected, Injector};
use report::{Ending, Report};

use crate::home::Home;
use crate::stack::{ProcessId, Service};
use crate::{output, token};

/// How soon everything has to be ready by itself after the last fault.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long the clients may go on repeating what they don't know.
const SETTLE_DEADLINE: Duration = Duration::from_secs(60);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
const OWNER_INTERVAL: Duration = Duration::from_millis(500);
/// The account of the clients.
const ACCOUNT: &str = "service";

#[derive(Args)]
pub struct Options {
    /// Decides the faults; the same seed has the same faults at the same times.
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// How long faults are injected; healing and checks come on top.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600), value_name = "M")]
    minutes: u64,
    /// How many operations per second the clients try.
    #[arg(long, default_value_t = 800, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
    ops_per_second: u32,
    /// How many clients there are. Each waits for its answer before it asks again: while a door hangs, few soon do nothing.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000), value_name = "N")]
    clients: u32,
    /// Fewer successful operations per second than this, on average over the run, are a breach too.
    #[arg(long, default_value_t = 50, value_name = "N")]
    min_ops_per_second: u32,
    /// Where the report goes (report.html, report.json).
    #[arg(long, default_value = "chaos-report", value_name = "DIR")]
    report: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Print the faults of this seed, and start nothing.
    #[arg(long)]
    plan: bool,
    /// Keep the logs of the processes; after a breach they are kept in any case.
    #[arg(long)]
    keep: bool,
    /// End, and leave nothing running, when this process is gone.
    #[arg(long, env = "NEXUS_DIES_WITH", hide = true, value_name = "PID")]
    dies_with: Option<i32>,
}

/// `nexus chaos`. Whoever has no mount namespace yet gets one first, see [`disk::enter_namespace`].
pub fn prepare(options: &Options) {
    if !options.plan {
        disk::enter_namespace();
    }
}

pub async fn run(home: &Home, options: &Options) -> Result<ExitCode> {
    if options.plan {
        return print_plan(options);
    }
    note(options, format_args!("seed {}, {} min", options.seed, options.minutes));
    let interrupted = interrupted(options.dies_with)?;
    tokio::pin!(interrupted);
    let started = Instant::now();
    let told = |step: &str| note(options, format_args!("{step} ({})", output::seconds(started.elapsed())));
    let cluster = tokio::select! {
        cluster = Cluster::start(home, options.seed, told) => cluster?,
        () = &mut interrupted => bail!("interrupted while starting (seed {})", options.seed),
    };
    let folder = cluster.stack.folder.clone();
    let outcome = tokio::select! {
        report = disturb(&cluster, options) => report,
        () = &mut interrupted => Err(anyhow::anyhow!("interrupted (seed {})", options.seed)),
    };
    Injector::new(&cluster, Instant::now()).heal();
    cluster.stop();
    let report = outcome.with_context(|| format!("seed {}; the logs are in {}", options.seed, folder.display()))?;
    report.write(&options.report)?;
    if report.breaches.is_empty() && !options.keep {
        std::fs::remove_dir_all(&folder).ok();
    } else {
        note(options, format_args!("the logs are kept in {}", folder.join("logs").display()));
    }
    match options.json {
        true => output::line(serde_json::to_string_pretty(&report.summary)?),
        false => report.print(&options.report),
    }
    Ok(if report.breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a run with this seed would do.
fn print_plan(options: &Options) -> Result<ExitCode> {
    let plan = schedule::plan(options.seed, options.minutes * 60_000, &cluster::targets());
    output::line(serde_json::to_string_pretty(&plan)?);
    Ok(ExitCode::SUCCESS)
}

/// The run itself: faults and clients, healing, checks.
async fn disturb(cluster: &Cluster, options: &Options) -> Result<Report> {
    let run_ms = options.minutes * 60_000;
    let plan = schedule::plan(options.seed, run_ms, &cluster::targets());
    let (plan, left_out) = Injector::possible(cluster, plan);
    let world = Arc::new(world(cluster).await?);
    let clients = start_clients(&world, options);
    let injector = Injector::new(cluster, world.started);
    let told = |injected: &Injected| {
        let missed = injected.missed.as_ref().map(|why| format!(", missed: {why}")).unwrap_or_default();
        let fault = &injected.fault;
        note(options, format_args!("{:>4} s  {} {}{missed}", fault.at_ms / 1_000, fault.kind, fault.target));
    };
    let injected = tokio::select! {
        injected = async {
            let injected = injector.run(&plan, told).await;
            tokio::time::sleep_until((world.started + Duration::from_millis(run_ms)).into()).await;
            injected
        } => injected,
        () = progress(&world, options) => bail!("the progress ended"),
    };
    let lasted = world.started.elapsed();
    injector.heal();
    world.ending.store(true, Ordering::Relaxed);
    let mut breaches = Vec::new();
    let healed = Instant::now();
    if let Err(error) = cluster.wait_ready(READY_WITHIN).await {
        breaches.push(Breach { check: "everything back within 30 s", detail: format!("{error:#}") });
    }
    let ready_after = healed.elapsed();
    note(options, format_args!("healed; everything ready after {}", output::seconds(ready_after)));
    settle(&world, clients).await;
    let history = std::mem::take(&mut *world.history.lock().unwrap_or_else(PoisonError::into_inner));
    let evidence = match gather(cluster).await {
        Ok(evidence) => evidence,
        Err(error) => {
            breaches.push(Breach { check: "read models catch up", detail: format!("{error:#}") });
            Evidence::default()
        }
    };
    if breaches.iter().all(|breach| breach.check != "read models catch up") {
        breaches.extend(checks::all(&history, &evidence));
    }
    breaches.extend(enough(&history, lasted, options));
    let restarts = cluster.restarts();
    let ending = Ending { injected, left_out, breaches, ready_after, lasted, restarts };
    Ok(Report::new(options, history, ending, &evidence))
}

async fn world(cluster: &Cluster) -> Result<World> {
    Ok(World {
        http: cluster.client.clone(),
        token: token::fetch(&cluster.stack, ACCOUNT).await?.access_token,
        write_doors: cluster.doors(Service::CommandApi),
        read_doors: cluster.doors(Service::QueryApi),
        started: Instant::now(),
        ending: false.into(),
        over: false.into(),
        done: 0.into(),
        history: Mutex::default(),
        claimed: Mutex::default(),
    })
}

fn start_clients(world: &Arc<World>, options: &Options) -> JoinSet<()> {
    let interval = Duration::from_secs(1) * options.clients / options.ops_per_second;
    let sessions = (0..options.clients).map(|number| {
        Session::new(world.clone(), usize::try_from(number).unwrap_or_default(), options.seed).run(interval)
    });
    sessions.collect()
}

/// Lets the clients finish: what they don't know they repeat, for so long.
async fn settle(world: &World, mut clients: JoinSet<()>) {
    let finished = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(SETTLE_DEADLINE, finished).await.is_err() {
        world.over.store(true, Ordering::Relaxed);
        while clients.join_next().await.is_some() {}
    }
}

async fn gather(cluster: &Cluster) -> Result<Evidence> {
    let witness = Witness::connect(&cluster.stack, &cluster.secrets).await?;
    witness.wait_until_level().await?;
    witness.gather().await
}

/// A run in which little succeeded proves little.
fn enough(history: &[history::Operation], lasted: Duration, options: &Options) -> Option<Breach> {
    let succeeded = history.iter().filter(|operation| operation.is_ok()).count();
    let per_second = report::per_second(succeeded, lasted);
    let least = f64::from(options.min_ops_per_second);
    let detail = format!("{per_second:.0} per second succeeded, and {least} are asked for");
    (per_second < least).then_some(Breach { check: "enough operations succeed", detail })
}

/// Tells how many operations succeed, for as long as it is asked.
async fn progress(world: &World, options: &Options) {
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    let mut before = 0;
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let done = world.done.load(Ordering::Relaxed);
        let rate = (done - before) / PROGRESS_INTERVAL.as_secs();
        note(options, format_args!("{:>4} s  {rate} operations/s", world.started.elapsed().as_secs()));
        before = done;
    }
}

/// Ctrl-C, SIGTERM, or the end of the process that this one shall not outlive.
fn interrupted(dies_with: Option<i32>) -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let owner = dies_with.map(|pid| ProcessId::of(pid).context("the process to die with is gone")).transpose()?;
    let orphaned = async move {
        let Some(owner) = owner else { return std::future::pending().await };
        while owner.is_alive() {
            tokio::time::sleep(OWNER_INTERVAL).await;
        }
    };
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = orphaned => {}
        }
    })
}

/// Progress goes beside the answer.
fn note(options: &Options, text: std::fmt::Arguments<'_>) {
    if options.json { output::note(text) } else { output::line(text) }
}
