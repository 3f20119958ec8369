//! The only place that prints.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// A line of the answer. A reader that has seen enough (`| head`) stops reading, not the work.
pub fn line(text: impl std::fmt::Display) {
    try_line(text).ok();
}

/// A line for somebody who may have stopped reading.
pub fn try_line(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// A remark beside the answer, for people.
pub fn note(text: impl std::fmt::Display) {
    writeln!(io::stderr(), "{text}").ok();
}

/// An error with its chain of causes, once.
pub fn error(error: &anyhow::Error) {
    note(format!("error: {error:#}"));
}

/// Names a step while it runs and says afterwards how long it took.
pub async fn step<T>(name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let started = Instant::now();
    let spinner = spinner(name);
    let outcome = work.await;
    spinner.finish_and_clear();
    let mark = if outcome.is_ok() { "✓" } else { "✗" };
    line(format_args!("  {mark} {name} ({})", seconds(started.elapsed())));
    outcome
}

/// A bar for work whose size is known; silent unless somebody watches.
pub fn progress(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if !io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    bar
}

fn spinner(name: &str) -> ProgressBar {
    const TICK: Duration = Duration::from_millis(100);
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.set_message(name.to_owned());
    spinner.enable_steady_tick(TICK);
    spinner
}

pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
