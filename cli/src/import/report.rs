//! Counting while it runs, and the report at the end.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::answer::Outcome;
use super::source::Request;
use crate::output;

/// Refusals that are printed; the rest is in the report file.
const REFUSALS_SHOWN: usize = 20;

/// What became of the resources. The names are those of `--json`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub accepted: u64,
    pub refused: u64,
    pub already_there: u64,
    pub seconds: f64,
    pub resources_per_s: f64,
    pub refusals: Vec<Refusal>,
}

/// An entry that was refused, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Refusal {
    pub file: String,
    /// Index in the file, from 0; `None` if the problem is the file itself.
    pub entry: Option<usize>,
    pub problem: String,
}

pub struct Tally {
    started: Instant,
    accepted: u64,
    already_there: u64,
    refused: u64,
    refusals: Vec<Refusal>,
}

impl Tally {
    pub fn new() -> Self {
        Self { started: Instant::now(), accepted: 0, already_there: 0, refused: 0, refusals: Vec::new() }
    }

    pub fn add(&mut self, file: &str, request: &Request, outcome: Outcome) {
        self.accepted += outcome.accepted;
        self.already_there += outcome.already_there;
        self.refused += outcome.refused;
        self.refusals.extend(outcome.problems.into_iter().map(|(entry, problem)| Refusal {
            file: file.to_owned(),
            entry: entry.map(|entry| entry + request.offset),
            problem,
        }));
    }

    /// A file that could not be read counts as one refusal: nobody knows what is in it.
    pub fn add_unreadable(&mut self, file: &str, error: &anyhow::Error) {
        self.refused += 1;
        self.refusals.push(Refusal { file: file.to_owned(), entry: None, problem: format!("{error:#}") });
    }

    pub fn rate(&self) -> String {
        let done = self.accepted + self.already_there + self.refused;
        format!("{done} resources, {:.0}/s", done as f64 / self.started.elapsed().as_secs_f64().max(0.001))
    }

    pub fn report(&self) -> Report {
        let seconds = self.started.elapsed().as_secs_f64();
        let done = self.accepted + self.already_there + self.refused;
        Report {
            accepted: self.accepted,
            refused: self.refused,
            already_there: self.already_there,
            seconds: (seconds * 1000.0).round() / 1000.0,
            resources_per_s: (done as f64 / seconds.max(0.001) * 10.0).round() / 10.0,
            refusals: self.refusals.clone(),
        }
    }
}

impl Report {
    /// The numbers in words.
    pub fn sentence(&self) -> String {
        format!(
            "{} resources accepted, {} already there, {} refused; {:.0}/s",
            self.accepted, self.already_there, self.refused, self.resources_per_s
        )
    }

    pub fn print(&self) {
        output::line(format_args!("{} ({:.1} s)", self.sentence(), self.seconds));
        for refusal in self.refusals.iter().take(REFUSALS_SHOWN) {
            let entry = refusal.entry.map(|entry| format!(" entry {entry}")).unwrap_or_default();
            output::line(format_args!("  {}{entry}: {}", refusal.file, refusal.problem));
        }
        if self.refusals.len() > REFUSALS_SHOWN {
            let more = self.refusals.len() - REFUSALS_SHOWN;
            output::line(format_args!("  … and {more} more; --report FILE has them all"));
        }
    }
}

/// The bar counts bytes of the files: their resources are known only once they have been read.
pub fn bar(size: u64) -> ProgressBar {
    let bar = output::progress(size);
    if let Ok(style) = ProgressStyle::with_template("  {bar:30} {percent:>3}% {msg}, {eta} left") {
        bar.set_style(style);
    }
    bar
}
