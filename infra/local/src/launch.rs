//! A process to start: as whom, with which log, and what becomes of it when its parent dies.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait_until;

/// The operating system account a server runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// Whoever runs this program.
    Current,
    /// Another account; only root may ask for one.
    Named(String),
}

impl User {
    /// `initdb` and `postgres` refuse to run as root; Debian's package brings an account for them.
    pub fn for_postgres() -> Self {
        if nix::unistd::geteuid().is_root() { Self::Named("postgres".to_owned()) } else { Self::Current }
    }
}

/// What happens to the process when the one that started it dies without stopping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The kernel sends it its stop signal: a crashed test run leaves nothing behind.
    Parent,
    /// It lives on, and whoever finds its process id in the state folder stops it.
    Independent,
}

/// Everything needed to start a process, as often as necessary.
#[derive(Clone, Debug)]
pub struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
    pub user: User,
    pub folder: PathBuf,
    /// Standard output and error are appended here.
    pub log: PathBuf,
    /// What asks this program to finish its work and leave. PostgreSQL reads SIGTERM as "wait for all clients".
    pub stop_signal: Signal,
    /// How far others go first when there are not enough processors, from 0 to 19; see nice(1).
    pub niceness: u8,
}

impl Launch {
    pub fn new(program: impl Into<PathBuf>, folder: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            user: User::Current,
            folder: folder.into(),
            log: log.into(),
            stop_signal: Signal::SIGTERM,
            niceness: 0,
        }
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts the process in a group of its own, so that Ctrl-C in the terminal reaches only its parent.
    pub fn start(&self, lifetime: Lifetime) -> Result<Process> {
        let mut command = self.command(lifetime);
        let log = open_log(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = spawn(command).with_context(|| format!("can't start {}", self.program.display()))?;
        Ok(Process { child, stop_signal: self.stop_signal, lifetime })
    }

    /// `setpriv` changes the account and sets the parent-death signal, `nice` the priority, and then each becomes the next:
    /// the process id is the program's own.
    fn command(&self, lifetime: Lifetime) -> Command {
        let mut command = setpriv(&self.user);
        if lifetime == Lifetime::Parent {
            command.args(["--pdeathsig", self.stop_signal.as_str().trim_start_matches("SIG")]);
        }
        command.arg("--");
        if self.niceness > 0 {
            command.args(["nice", "-n", &self.niceness.to_string()]);
        }
        command.arg(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().cloned()).current_dir(&self.folder);
        command
    }
}

/// A short command run to its end as `user`.
pub(crate) fn command_as(user: &User, program: &Path) -> Command {
    match user {
        User::Current => Command::new(program),
        User::Named(_) => {
            let mut command = setpriv(user);
            command.arg("--").arg(program);
            command
        }
    }
}

fn setpriv(user: &User) -> Command {
    let mut command = Command::new("setpriv");
    if let User::Named(name) = user {
        command.args(["--reuid", name, "--regid", name, "--init-groups"]);
    }
    command
}

/// Whether `user` can enter `folder`: root's own folders are often closed to the account of PostgreSQL.
pub fn can_traverse(user: &User, folder: &Path) -> bool {
    let mut command = command_as(user, Path::new("test"));
    command.arg("-x").arg(folder);
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn open_log(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("can't write {}", path.display()))
}

/// A running process. Dropping it stops it if it was started for its parent's lifetime.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stop_signal: Signal,
    lifetime: Lifetime,
}

impl Process {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids of Linux fit 22 bits")
    }

    /// The exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid()), signal).with_context(|| format!("can't send {signal} to {}", self.pid()))
    }

    /// Ends it without a warning, as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop, waits, and kills it when the deadline has passed. True if it stopped by itself.
    pub fn stop(&mut self, deadline: Duration) -> Result<bool> {
        if self.ended().is_some() {
            return Ok(true);
        }
        self.signal(self.stop_signal)?;
        let child = &mut self.child;
        let stopped = wait_until("the process ending", deadline, || Ok(child.try_wait()?.is_some()));
        if stopped.is_err() {
            self.kill()?;
        }
        Ok(stopped.is_ok())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        const DROP_DEADLINE: Duration = Duration::from_secs(10);
        if self.lifetime == Lifetime::Parent && self.ended().is_none() {
            // Nobody is left to tell; the parent-death signal is the second net.
            self.stop(DROP_DEADLINE).ok();
        }
    }
}

type SpawnRequest = (Command, Sender<std::io::Result<Child>>);

/// Spawns from one thread that lives as long as this program: the kernel sends the parent-death signal when the
/// *thread* that forked ends, and threads of test harnesses and runtimes come and go.
fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<SpawnRequest>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, receiver) = channel::<SpawnRequest>();
        std::thread::spawn(move || {
            for (mut command, answer) in receiver {
                // A requester that is gone has no use for the answer.
                answer.send(command.spawn()).ok();
            }
        });
        Mutex::new(sender)
    });
    let (answer, spawned) = channel();
    let sender = spawner.lock().map_err(|_| anyhow!("the spawning thread panicked"))?.clone();
    sender.send((command, answer)).map_err(|_| anyhow!("the spawning thread ended"))?;
    Ok(spawned.recv()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path, script: &str) -> Launch {
        Launch::new("sh", folder, folder.join("log")).arg("-c").arg(script)
    }

    #[test]
    fn a_process_outlives_the_thread_that_started_it() {
        let folder = tempfile::tempdir().unwrap();
        let launch = sleeper(folder.path(), "exec sleep 60");
        let mut process = std::thread::spawn(move || launch.start(Lifetime::Parent)).join().unwrap().unwrap();
        std::thread::yield_now();
        assert!(process.ended().is_none());
        assert!(process.stop(Duration::from_secs(5)).unwrap());
    }

    #[test]
    fn a_deaf_process_is_killed_after_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut process = sleeper(folder.path(), "trap '' TERM; echo deaf; while :; do sleep 0.05; done")
            .start(Lifetime::Parent)
            .unwrap();
        let deaf = || Ok(std::fs::read_to_string(&log)?.contains("deaf"));
        wait_until("the trap", Duration::from_secs(5), deaf).unwrap();
        assert!(!process.stop(Duration::from_millis(200)).unwrap());
        assert!(process.ended().is_some());
    }
}
