//! Does what the plan says, at its time, and undoes it.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::stream::{FuturesUnordered, StreamExt as _};
use nix::sys::signal::Signal;
use serde::Serialize;

use super::cluster::{self, Cluster};
use super::link::Mode;
use super::schedule::{Fault, Kind};

/// A fault as it took place.
#[derive(Clone, Debug, Serialize)]
pub struct Injected {
    #[serde(flatten)]
    pub fault: Fault,
    /// Why it could not be done; there was nothing to be hit, say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<String>,
}

/// Carries the faults of a run out.
pub struct Injector<'a> {
    cluster: &'a Cluster,
    started: Instant,
    tracers: Mutex<BTreeMap<u64, Child>>,
}

impl<'a> Injector<'a> {
    pub fn new(cluster: &'a Cluster, started: Instant) -> Self {
        Self { cluster, started, tracers: Mutex::default() }
    }

    /// What of a plan this machine can do, and sentences about what it can't.
    pub fn possible(cluster: &Cluster, plan: Vec<Fault>) -> (Vec<Fault>, Vec<String>) {
        let missing = [
            (Kind::DiskFull, cluster.disks.is_some(), "no disk was filled: this account may not mount a file system"),
            (
                Kind::ClockStep,
                Cluster::can_step_clocks(),
                "no clock was stepped: the package faketime is not installed",
            ),
            (Kind::SlowDisk, can_trace(), "no disk was slowed: strace is not installed, or may not trace"),
        ];
        let can = |fault: &Fault| missing.iter().all(|(kind, is_possible, _)| *is_possible || fault.kind != *kind);
        let left_out = missing.iter().filter(|(_, is_possible, _)| !is_possible);
        (plan.iter().filter(|fault| can(fault)).cloned().collect(), left_out.map(|it| it.2.to_owned()).collect())
    }

    /// Runs the whole plan; tells of each fault as it begins, and answers when the last is over.
    pub async fn run(&self, plan: &[Fault], told: impl Fn(&Injected)) -> Vec<Injected> {
        let mut running: FuturesUnordered<_> = plan.iter().map(|fault| self.carry_out(fault, &told)).collect();
        let mut injected = Vec::new();
        while let Some(done) = running.next().await {
            injected.push(done);
        }
        injected.sort_by_key(|it| it.fault.at_ms);
        injected
    }

    async fn carry_out(&self, fault: &Fault, told: impl Fn(&Injected)) -> Injected {
        self.sleep_until(fault.at_ms).await;
        let reason = |outcome: Result<()>| outcome.err().map(|error| format!("{error:#}"));
        let begun = Injected { fault: fault.clone(), missed: reason(self.begin(fault)) };
        told(&begun);
        self.sleep_until(fault.end_ms()).await;
        let ended = reason(self.end(fault));
        Injected { missed: begun.missed.or(ended), ..begun }
    }

    async fn sleep_until(&self, at_ms: u64) {
        tokio::time::sleep_until((self.started + Duration::from_millis(at_ms)).into()).await;
    }

    fn begin(&self, fault: &Fault) -> Result<()> {
        let amount = fault.amount.unsigned_abs();
        match fault.kind {
            Kind::Kill => self.signal(&fault.target, Signal::SIGKILL),
            Kind::Pause => self.signal(&fault.target, Signal::SIGSTOP),
            Kind::Cut => self.set(fault, Mode::Cut),
            Kind::Delay => self.set(fault, Mode::Delay(amount)),
            Kind::BlackHole => self.set(fault, Mode::BlackHole),
            Kind::CutMidMessage => self.set(fault, Mode::CutAfter(usize::try_from(amount)?)),
            Kind::BrokerRestart => self.signal("kafka", Signal::SIGTERM),
            Kind::CrashRestart => self.signal("postgres", Signal::SIGQUIT),
            Kind::BackendKill => self.kill_backend(),
            Kind::DiskFull => self.cluster.disks.as_ref().context("there is no small disk")?.fill(&fault.target),
            Kind::ClockStep => self.cluster.step_clock(&fault.target, fault.amount),
            Kind::SlowDisk => self.slow_down(fault),
        }
    }

    fn end(&self, fault: &Fault) -> Result<()> {
        match fault.kind {
            Kind::Pause => self.signal(&fault.target, Signal::SIGCONT),
            Kind::Cut | Kind::Delay | Kind::BlackHole | Kind::CutMidMessage => self.set(fault, Mode::Pass),
            Kind::DiskFull => self.cluster.disks.as_ref().context("there is no small disk")?.free(&fault.target),
            Kind::ClockStep => self.cluster.step_clock(&fault.target, 0),
            Kind::SlowDisk => self.speed_up(fault.at_ms),
            Kind::Kill | Kind::BrokerRestart | Kind::CrashRestart | Kind::BackendKill => Ok(()),
        }
    }

    /// Ends whatever may still go on, however the run ended.
    pub fn heal(&self) {
        self.cluster.links.iter().for_each(|link| link.set(Mode::Pass));
        for name in cluster::targets().processes {
            self.signal(&name, Signal::SIGCONT).ok();
        }
        for name in cluster::targets().clocks {
            self.cluster.step_clock(&name, 0).ok();
        }
        if let Some(disks) = &self.cluster.disks {
            disks.free_all();
        }
        let tracers = std::mem::take(&mut *self.tracers.lock().unwrap_or_else(PoisonError::into_inner));
        tracers.into_values().for_each(|mut tracer| drop(let_go(&mut tracer)));
    }

    fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        self.cluster.process(name).with_context(|| format!("{name} does not run"))?.signal(signal);
        Ok(())
    }

    fn set(&self, fault: &Fault, mode: Mode) -> Result<()> {
        self.cluster.link(&fault.target).context("there is no such link")?.set(mode);
        Ok(())
    }

    /// The youngest child serves somebody; the older ones are PostgreSQL's own.
    fn kill_backend(&self) -> Result<()> {
        let backend = self.backends()?.into_iter().max().context("nobody is connected")?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(backend), Signal::SIGKILL)?;
        Ok(())
    }

    fn backends(&self) -> Result<Vec<i32>> {
        let server = self.cluster.process("postgres").context("postgres does not run")?.pid;
        let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children"))?;
        Ok(children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
    }

    fn slow_down(&self, fault: &Fault) -> Result<()> {
        let server = self.cluster.process("postgres").context("postgres does not run")?.pid;
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
        command.args(["-e", &format!("inject=fsync,fdatasync:delay_exit={}", fault.amount * 1_000)]);
        for pid in [server].into_iter().chain(self.backends()?) {
            command.args(["-p", &pid.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let tracer = command.spawn().context("strace does not start")?;
        self.tracers.lock().unwrap_or_else(PoisonError::into_inner).insert(fault.at_ms, tracer);
        Ok(())
    }

    fn speed_up(&self, at_ms: u64) -> Result<()> {
        let tracer = self.tracers.lock().unwrap_or_else(PoisonError::into_inner).remove(&at_ms);
        let mut tracer = tracer.context("nothing was slowed")?;
        anyhow::ensure!(let_go(&mut tracer)?, "strace ended early");
        Ok(())
    }
}

/// Ends a tracer that lets its tracees go. True if it had been at work until now.
fn let_go(tracer: &mut Child) -> Result<bool> {
    if tracer.try_wait()?.is_some() {
        return Ok(false);
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(tracer.id())?), Signal::SIGTERM)?;
    tracer.wait()?;
    Ok(true)
}

fn can_trace() -> bool {
    let mut probe = Command::new("strace");
    probe.args(["-qq", "-o", "/dev/null", "-e", "trace=none", "true"]);
    probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
