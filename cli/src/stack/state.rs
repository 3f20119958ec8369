//! What the supervisor tells the other commands: `supervisor.json`, and a lock that is held while it lives.

use std::fs::{File, OpenOptions};
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{Service, Stack};

/// The supervisor and its children, as of its last change.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    pub supervisor: Option<ProcessId>,
    pub services: Vec<ServiceState>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceState {
    pub name: String,
    /// `None` while it is down.
    pub process: Option<ProcessId>,
    /// How often it was started again since the supervisor started.
    pub restarts: u64,
}

/// A process that can't be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// Clock ticks since boot at its start, from `/proc`.
    pub started_ticks: u64,
}

impl ProcessId {
    /// Reads the start time of a running process.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses and may contain anything; the 22nd is the start time.
        let (_, fields) = stat.rsplit_once(") ")?;
        let started_ticks = fields.split(' ').nth(19)?.parse().ok()?;
        let is_zombie = fields.starts_with('Z');
        (!is_zombie).then_some(Self { pid, started_ticks })
    }

    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Whether it runs this program as it is now, and not one that was replaced since.
    pub fn runs(self, program: &Path) -> bool {
        // Of a file that is gone, the link ends in " (deleted)".
        std::fs::read_link(format!("/proc/{}/exe", self.pid)).is_ok_and(|running| running == program)
    }

    /// Sends a signal, if it is still this process.
    pub fn signal(self, signal: Signal) {
        if self.is_alive() {
            // It may have ended in between; that is what was wanted.
            kill(Pid::from_raw(self.pid), signal).ok();
        }
    }
}

impl State {
    /// The last state written; empty if there is none.
    pub fn load(stack: &Stack) -> Self {
        let text = std::fs::read(stack.folder.join("supervisor.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Replaces the file in one step: a reader sees the old state or the new one.
    pub fn store(&self, stack: &Stack) -> Result<()> {
        let draft = stack.folder.join("supervisor.json.draft");
        std::fs::write(&draft, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(&draft, stack.folder.join("supervisor.json"))?;
        Ok(())
    }

    pub fn service(&self, service: Service) -> Option<&ServiceState> {
        self.services.iter().find(|state| state.name == service.name())
    }

    pub fn restarts(&self, service: Service) -> u64 {
        self.service(service).map_or(0, |state| state.restarts)
    }

    /// Whether the supervisor that wrote this is still there.
    pub fn is_supervised(&self) -> bool {
        self.supervisor.is_some_and(ProcessId::is_alive)
    }

    /// The running process of a service.
    pub fn process(&self, service: Service) -> Option<ProcessId> {
        self.service(service)?.process.filter(|process| process.is_alive())
    }
}

/// An exclusive lock on a file of the stack; the kernel gives it back when its holder dies.
pub struct Lock(#[expect(dead_code, reason = "held until dropped")] Flock<File>);

impl Lock {
    /// Held by the supervisor while it lives; `None` if there is another.
    pub fn supervisor(stack: &Stack) -> Result<Option<Self>> {
        Self::try_take(&stack.folder.join("supervisor.lock"))
    }

    /// Held by `up`; `None` if another is running. It lies beside the folder of the stack, which `up --fresh` deletes.
    pub fn up(stack: &Stack) -> Result<Option<Self>> {
        Self::try_take(&stack.folder.with_extension("up.lock"))
    }

    fn try_take(path: &Path) -> Result<Option<Self>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let file = file.with_context(|| format!("can't open {}", path.display()))?;
        Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).ok().map(Self))
    }
}

/// Whether a supervisor of this stack is running.
pub fn supervisor_runs(stack: &Stack) -> Result<bool> {
    Ok(stack.folder.exists() && Lock::supervisor(stack)?.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let own = ProcessId::of(std::process::id().cast_signed()).expect("this test runs");
        assert!(own.is_alive());
        assert!(!ProcessId { started_ticks: own.started_ticks + 1, ..own }.is_alive());
        assert!(own.runs(&std::env::current_exe().unwrap()));
        assert!(!own.runs(Path::new("/proc/self/exe")));
    }
}
