//! Waiting for a condition with a deadline, never for a fixed time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Polls `check` until it says yes, or fails with a sentence that names `what` was awaited.
pub fn wait_until(what: &str, deadline: Duration, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !check()? {
        if started.elapsed() > deadline {
            bail!("{what} did not happen within {} s", deadline.as_secs());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}
