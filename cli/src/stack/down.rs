//! `nexus down`: asks the supervisor to stop everything, and cleans up after one that was killed.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::Stack;
use super::state::{State, supervisor_runs};
use super::supervisor::stop_leftovers;
use crate::output;

/// The deadlines of the supervisor for each service together, and a little.
const DOWN_DEADLINE: Duration = Duration::from_secs(150);

pub async fn down(stack: &Stack) -> Result<ExitCode> {
    if !stack.folder.exists() {
        output::line("nothing runs: this stack has never been started");
        return Ok(ExitCode::SUCCESS);
    }
    output::step("everything stopped", stop(stack)).await?;
    Ok(ExitCode::SUCCESS)
}

/// Stops the stack and waits until nothing of it runs.
pub async fn stop(stack: &Stack) -> Result<()> {
    let stack = stack.clone();
    let stop = move || {
        if supervisor_runs(&stack)? {
            // It may hold the lock and not have written its state yet.
            nexus_local::wait_until("the supervisor's state", Duration::from_secs(30), || {
                Ok(State::load(&stack).supervisor.is_some_and(|process| process.is_alive())
                    || !supervisor_runs(&stack)?)
            })?;
            let supervisor = State::load(&stack).supervisor.context("the supervisor just ended")?;
            supervisor.signal(Signal::SIGTERM);
            nexus_local::wait_until("the end of the supervisor", DOWN_DEADLINE, || Ok(!supervisor_runs(&stack)?))?;
        }
        stop_leftovers(&stack);
        State::default().store(&stack)
    };
    tokio::task::spawn_blocking(stop).await?
}
