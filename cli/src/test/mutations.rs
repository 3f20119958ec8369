//! The mutation check: with a safeguard switched off, a test has to fail; with all of them on, each of these tests passes.
//!
//! Our crates are built once more, with the feature `sabotage`; which safeguard is off is said by the environment.

use anyhow::{Context, Result, ensure};
use nexus_event_store::sabotage::Safeguard;

use super::{Steps, step};
use crate::output;

/// Says which safeguard is off.
const VARIABLE: &str = "NEXUS_SABOTAGE";
const BUILD: [&str; 7] = [
    "test",
    "--locked",
    "--profile",
    "suite",
    "--workspace",
    "--features",
    "nexus-event-store/sabotage,nexus-projections/sabotage",
];
/// A message is shown up to here.
const MESSAGE_CHARS_MAX: usize = 110;

/// A test that has to notice when a safeguard is off.
struct Watchman {
    safeguard: Safeguard,
    /// The test program, and the test in it.
    program: &'static str,
    test: &'static str,
}

const WATCHMEN: [Watchman; 6] = [
    Watchman {
        safeguard: Safeguard::EpochFence,
        program: "engine",
        test: "fences::an_owner_of_yesterday_changes_zero_rows",
    },
    Watchman {
        safeguard: Safeguard::EpochFence,
        program: "relay",
        test: "a_relay_whose_leases_went_to_another_stores_no_progress",
    },
    Watchman {
        safeguard: Safeguard::PositionCheck,
        program: "engine",
        test: "topic::repetitions_are_dropped_and_gaps_filled",
    },
    Watchman {
        safeguard: Safeguard::IdempotencyRow,
        program: "append",
        test: "a_retry_gets_the_first_answer_wherever_it_asks",
    },
    Watchman {
        safeguard: Safeguard::HeadLock,
        program: "append",
        test: "who_leans_on_a_stream_waits_for_the_append_that_moves_it",
    },
    Watchman {
        safeguard: Safeguard::OneTransaction,
        program: "engine",
        test: "exactly_once::a_database_that_goes_away_is_waited_for",
    },
];

/// What became of a test.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// It failed, and said this.
    Failed(String),
}

/// Runs every watchman with and without its safeguard, and prints what each of them said.
pub fn check(steps: &Steps) -> Result<()> {
    let programs = WATCHMEN.iter().flat_map(|watchman| ["--test", watchman.program]);
    let build: Vec<&str> = BUILD.into_iter().chain(programs).chain(["--no-run"]).collect();
    steps.cargo("programs with the safeguards' switches", &build)?;
    step("mutations", || {
        let mut asleep = 0;
        output::line(format_args!("{:<16} {:<62} noticed by", "safeguard off", "test"));
        for watchman in &WATCHMEN {
            let with = run(steps, watchman, None)?;
            ensure!(with == Verdict::Passed, "{} fails with every safeguard on: {with:?}", watchman.test);
            let said = match run(steps, watchman, Some(watchman.safeguard))? {
                Verdict::Failed(message) => message,
                Verdict::Passed => {
                    asleep += 1;
                    "NOBODY: the test passes without the safeguard".to_owned()
                }
            };
            output::line(format_args!("{:<16} {:<62} {said}", watchman.safeguard.name(), watchman.test));
        }
        ensure!(asleep == 0, "{asleep} of {} tests pass without the safeguard that they are about", WATCHMEN.len());
        Ok(())
    })
}

fn run(steps: &Steps, watchman: &Watchman, off: Option<Safeguard>) -> Result<Verdict> {
    let chosen = ["--test", watchman.program, "--", "--exact", watchman.test];
    let mut command = steps.command(&BUILD.into_iter().chain(chosen).collect::<Vec<_>>());
    command.env_remove(VARIABLE).envs(off.map(|safeguard| (VARIABLE, safeguard.name())));
    let output = command.output().context("`cargo` is not installed")?;
    let said = String::from_utf8_lossy(&output.stdout);
    verdict(&said, watchman.test).with_context(|| {
        format!("{} did not run: {}", watchman.test, String::from_utf8_lossy(&output.stderr).trim_end())
    })
}

/// Reads what the test program printed; nothing, if the test is not in it.
fn verdict(said: &str, test: &str) -> Option<Verdict> {
    let line = |outcome: &str| said.lines().any(|line| line == format!("test {test} ... {outcome}"));
    if line("ok") {
        return Some(Verdict::Passed);
    }
    line("FAILED").then(|| Verdict::Failed(message(said).unwrap_or_else(|| "without a word".to_owned())))
}

/// The first line of the last panic.
fn message(said: &str) -> Option<String> {
    let lines: Vec<&str> = said.lines().collect();
    let at = lines.iter().rposition(|line| line.contains("panicked at "))?;
    Some(lines.get(at + 1)?.chars().take(MESSAGE_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_safeguard_has_a_watchman() {
        for safeguard in Safeguard::ALL {
            assert!(WATCHMEN.iter().any(|watchman| watchman.safeguard == safeguard), "{safeguard:?}");
            assert_eq!(Safeguard::parse(safeguard.name()), Some(safeguard));
        }
    }

    #[test]
    fn a_verdict_is_read_from_the_named_test_alone() {
        let failed =
            "test a::b ... FAILED\n\n---- a::b stdout ----\n\nthread 'a::b' panicked at x.rs:1:2:\none too many\n";
        assert_eq!(verdict(failed, "a::b"), Some(Verdict::Failed("one too many".to_owned())));
        assert_eq!(verdict("test a::b ... ok\n", "a::b"), Some(Verdict::Passed));
        assert_eq!(verdict("running 0 tests\n", "a::b"), None);
        assert_eq!(verdict("test a::bc ... ok\n", "a::b"), None);
    }
}
