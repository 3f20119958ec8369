//! The background process of a stack: starts the services, starts again what dies, stops everything in order.
//!
//! It decides little: PostgreSQL and Kafka at once, the others as soon as `up` has left the marker that says the
//! databases and the topic exist and both foundations have answered once.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nexus_local::{Launch, Lifetime, Process, postgres};
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::state::{Lock, ProcessId, ServiceState, State};
use super::{Instance, Secrets, Service, Stack, certificates, logs};
use crate::args;

const TICK: Duration = Duration::from_millis(100);
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);
/// How often the ends of the certificates are looked at; they live for weeks.
const CERTIFICATES_INTERVAL: Duration = Duration::from_secs(3_600);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A service that ran this long has recovered: its next failure is a new one.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(20);
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT, or until the process is gone that it shall not outlive.
pub async fn supervise(stack: &Stack, options: &args::Supervise) -> Result<ExitCode> {
    // A session of its own: the terminal that started the stack may close. It fails only for a group leader.
    nix::unistd::setsid().ok();
    let _lock = Lock::supervisor(stack)?.context("this stack has a supervisor already")?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let owner = match options.dies_with {
        Some(pid) => Some(ProcessId::of(pid).context("the process to die with is gone")?),
        None => None,
    };

    let mut supervisor = tokio::task::block_in_place(|| Supervisor::start(stack))?;
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = ticks.tick() => {}
        }
        if owner.is_some_and(|owner| !owner.is_alive()) {
            break;
        }
        tokio::task::block_in_place(|| supervisor.tick());
    }
    tokio::task::block_in_place(|| supervisor.stop());
    Ok(ExitCode::SUCCESS)
}

struct Supervisor {
    stack: Stack,
    keeper: Keeper,
    foundations_answered: bool,
    house_kept: Instant,
    certificates_seen: Instant,
}

/// Processes that are started again when they end, later each time that one does not last.
pub struct Keeper {
    children: Vec<Child>,
    lifetime: Lifetime,
}

struct Child {
    service: Service,
    name: String,
    launch: Launch,
    process: Option<Process>,
    started: Instant,
    backoff: Duration,
    start_at: Instant,
    starts: u64,
}

impl Supervisor {
    fn start(stack: &Stack) -> Result<Self> {
        stop_leftovers(stack);
        let secrets = Secrets::load(stack)?;
        prepare_foundations(stack, &secrets)?;
        let mut keeper = Keeper::new(Lifetime::Independent);
        for service in Service::of(stack) {
            let instance = Instance::only(service, stack.ports);
            keeper.add(&instance, instance.launch(stack, &secrets)?);
        }
        let supervisor = Self {
            stack: stack.clone(),
            keeper,
            foundations_answered: false,
            house_kept: Instant::now(),
            certificates_seen: Instant::now(),
        };
        supervisor.store()?;
        Ok(supervisor)
    }

    fn tick(&mut self) {
        let services_may_run = self.services_may_run();
        let changed = self.keeper.tick(services_may_run);
        let house_is_due = self.house_kept.elapsed() > HOUSEKEEPING_INTERVAL;
        // A state that could not be written, as on a full disk, is written with the next.
        if changed || house_is_due {
            go_on_after("the state can't be written", self.store());
        }
        if house_is_due {
            self.house_kept = Instant::now();
            go_on_after("the logs can't be set aside", logs::rotate_all(&self.stack));
        }
        if self.certificates_seen.elapsed() > CERTIFICATES_INTERVAL {
            self.certificates_seen = Instant::now();
            go_on_after("certificates can't be renewed", certificates::keep(&self.stack));
        }
    }

    /// Once true it stays true: a service outlives a restart of its database.
    fn services_may_run(&mut self) -> bool {
        if !self.foundations_answered && self.stack.prepared_marker().exists() {
            self.foundations_answered = postgres::is_ready(self.stack.ports.postgres())
                && self.stack.kafka().is_ok_and(|kafka| kafka.is_ready(Duration::from_millis(500)));
        }
        self.foundations_answered
    }

    fn store(&self) -> Result<()> {
        let supervisor = ProcessId::of(std::process::id().cast_signed());
        State { supervisor, services: self.keeper.states() }.store(&self.stack)
    }

    fn stop(&mut self) {
        self.keeper.stop();
        go_on_after("the state can't be written", State::default().store(&self.stack));
    }
}

impl Keeper {
    pub fn new(lifetime: Lifetime) -> Self {
        Self { children: Vec::new(), lifetime }
    }

    /// Takes on a process; the next tick starts it. They stop in the opposite order.
    pub fn add(&mut self, instance: &Instance, launch: Launch) {
        self.children.push(Child::new(instance, launch));
    }

    /// Starts what is due, and of those that need the foundations only if they may run. True if anything has changed.
    pub fn tick(&mut self, services_may_run: bool) -> bool {
        let mut changed = false;
        for child in &mut self.children {
            changed |= child.notice_end();
            if child.is_due() && (child.service.is_foundation() || services_may_run) {
                child.start(self.lifetime);
                changed = true;
            }
        }
        changed
    }

    pub fn states(&self) -> Vec<ServiceState> {
        self.children.iter().map(Child::state).collect()
    }

    /// Backwards, so that nobody loses what it leans on.
    pub fn stop(&mut self) {
        for child in self.children.iter_mut().rev() {
            if let Some(mut process) = child.process.take() {
                log(&format!("stopping {}", child.name));
                go_on_after("it can't be stopped", process.stop(STOP_DEADLINE).map(drop));
            }
        }
    }
}

impl Child {
    fn new(instance: &Instance, launch: Launch) -> Self {
        let (now, service, name) = (Instant::now(), instance.service, instance.name.clone());
        Self { service, name, launch, process: None, started: now, backoff: BACKOFF_MIN, start_at: now, starts: 0 }
    }

    /// True if the process has ended since the last look.
    fn notice_end(&mut self) -> bool {
        let Some(status) = self.process.as_mut().and_then(Process::ended) else { return false };
        self.process = None;
        if self.started.elapsed() > HEALTHY_AFTER {
            self.backoff = BACKOFF_MIN;
        }
        log(&format!("{} ended: {status}; it starts again in {:?}", self.name, self.backoff));
        self.plan_restart();
        true
    }

    fn is_due(&self) -> bool {
        self.process.is_none() && Instant::now() >= self.start_at
    }

    fn start(&mut self, lifetime: Lifetime) {
        self.started = Instant::now();
        match self.launch.start(lifetime) {
            Ok(process) => {
                self.starts += 1;
                self.process = Some(process);
            }
            Err(error) => {
                log(&format!("{error:#}"));
                self.plan_restart();
            }
        }
    }

    fn plan_restart(&mut self) {
        self.start_at = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    fn state(&self) -> ServiceState {
        let process = self.process.as_ref().and_then(|process| ProcessId::of(process.pid()));
        ServiceState { name: self.name.clone(), process, restarts: self.starts.saturating_sub(1) }
    }
}

/// Folders and configuration of PostgreSQL and Kafka.
pub fn prepare_foundations(stack: &Stack, secrets: &Secrets) -> Result<()> {
    let kafka = stack.kafka()?;
    std::thread::scope(|scope| {
        let kafka = scope.spawn(move || kafka.prepare());
        stack.postgres(secrets).prepare()?;
        kafka.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Ends what a supervisor that was killed left running.
pub fn stop_leftovers(stack: &Stack) {
    let state = State::load(stack);
    for service in Service::ALL.into_iter().rev() {
        let Some(process) = state.process(service) else { continue };
        process.signal(if service == Service::Postgres { Signal::SIGINT } else { Signal::SIGTERM });
        let gone = nexus_local::wait_until("the end of a leftover", STOP_DEADLINE, || Ok(!process.is_alive()));
        if gone.is_err() {
            process.signal(Signal::SIGKILL);
            // Its port and its files are free when it is gone, and not before. What can't be killed shows itself there.
            nexus_local::wait_until("the end of a killed leftover", KILL_DEADLINE, || Ok(!process.is_alive())).ok();
        }
    }
}

/// A supervisor that ends takes its services' care away: whatever fails, it goes on.
fn go_on_after(what: &str, outcome: Result<()>) {
    if let Err(error) = outcome {
        log(&format!("{what}: {error:#}"));
    }
}

/// Standard error is `supervisor.log`.
fn log(text: &str) {
    crate::output::note(format_args!("{} {text}", chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ")));
}
