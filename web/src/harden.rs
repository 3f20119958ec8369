//! What a process gives up before it holds anything secret.

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// One byte: too little for a core file, and the value at which Linux does not start a program that collects cores either.
/// Zero would not stop that (core(5), "Piping core dumps to a program").
const CORE_BYTES: u64 = 1;

/// No core dumps of this process or of what it starts: keys and opened records are in its memory.
///
/// `PR_SET_DUMPABLE` would do it, too, and take from a service that is not root its own entries in `/proc`, which metrics and
/// the local supervisor read.
///
/// # Errors
/// If the system refuses, which it has no reason to.
pub fn harden() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).context("the limit of core dumps")?;
    // A limit that is zero already can't be raised, and need not.
    let limit = hard.min(CORE_BYTES);
    setrlimit(Resource::RLIMIT_CORE, limit, limit).context("core dumps can't be turned off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_core_is_dumped_once_hardened() {
        harden().unwrap();
        harden().unwrap();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let values: Vec<u64> = core.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert!(values.len() == 2 && values.iter().all(|value| *value <= CORE_BYTES), "{core}");
    }
}
