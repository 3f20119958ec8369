//! `nexus import`: files through the HTTP API, as any client would send them.
//!
//! Nothing is remembered here. Each request carries a key made from its content, so a second run, a run after Ctrl-C
//! and a retry after a lost answer all find what is there. What is refused is sent again after what came later: it may
//! have referred to that.

mod answer;
mod content;
mod credentials;
mod minify;
mod report;
mod request;
mod sender;
mod sniff;
mod source;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use futures::StreamExt as _;
use futures::stream;
use indicatif::ProgressBar;

use crate::stack::{Service, Stack};
use crate::{args, output};

use credentials::Credentials;
pub use report::Report;
use report::Tally;
use request::Selection;
use sender::Sender;
use source::{Found, Source};

const JOBS_DEFAULT: u16 = 4;

/// Sends files to the local stack's write door, all of them.
pub async fn into_stack(stack: &Stack, paths: Vec<PathBuf>) -> Result<Report> {
    let sender = Sender::new(Some(stack), Service::CommandApi.url(stack.ports), Credentials::of_stack(stack))?;
    match send_all(sender, &paths, JOBS_DEFAULT).await? {
        (report, Ending::Complete) => Ok(report),
        (_, Ending::Interrupted) => bail!("interrupted; the next run goes on where this one stopped"),
        (_, Ending::Failed(error)) => Err(error),
    }
}

pub async fn run(stack: &Stack, options: &args::Import) -> Result<ExitCode> {
    let url = options.url.clone().unwrap_or_else(|| Service::CommandApi.url(stack.ports));
    let credentials = match &options.token_file {
        Some(path) => Credentials::of_file(path.clone()),
        None => Credentials::of_stack(stack),
    };
    let (report, ending) =
        send_all(Sender::new(options.url.is_none().then_some(stack), url, credentials)?, &options.paths, options.jobs)
            .await?;
    if options.json {
        output::line(serde_json::to_string(&report)?);
    } else {
        report.print();
    }
    if let Some(path) = &options.report {
        let text = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))?;
    }
    match ending {
        Ending::Complete if report.refused == 0 => return Ok(ExitCode::SUCCESS),
        Ending::Complete => {}
        Ending::Interrupted => output::note("interrupted; run the same command again to go on where it stopped"),
        Ending::Failed(error) => output::error(&error),
    }
    Ok(ExitCode::FAILURE)
}

enum Ending {
    Complete,
    Interrupted,
    Failed(anyhow::Error),
}

async fn send_all(sender: Sender, paths: &[PathBuf], jobs: u16) -> Result<(Report, Ending)> {
    let paths = paths.to_vec();
    let Found { phases, skipped } = tokio::task::spawn_blocking(move || source::find(&paths)).await??;
    let run = Run {
        sender,
        tally: Mutex::new(Tally::new()),
        bar: report::bar(phases.iter().flatten().map(|source| source.size).sum()),
        jobs: usize::from(jobs),
    };
    let ending = tokio::select! {
        outcome = run.phases(phases) => outcome.map_or_else(Ending::Failed, |()| Ending::Complete),
        _ = tokio::signal::ctrl_c() => Ending::Interrupted,
    };
    run.bar.finish_and_clear();
    let skipped = skipped.iter().map(|path| path.display().to_string()).collect();
    let report = Report { skipped, ..run.tally().report() };
    Ok((report, ending))
}

struct Run {
    sender: Sender,
    tally: Mutex<Tally>,
    bar: ProgressBar,
    /// How many files are sent at a time.
    jobs: usize,
}

impl Run {
    /// A phase leans on the ones before it; within a phase the order does not matter.
    async fn phases(&self, phases: Vec<Vec<Source>>) -> Result<()> {
        for phase in phases {
            self.files(phase.into_iter().map(|source| (source, Selection::Everything)).collect()).await?;
            self.again().await?;
        }
        Ok(())
    }

    /// Sends what was refused so far, until a round brings nothing.
    async fn again(&self) -> Result<()> {
        loop {
            let (left, count) = {
                let tally = self.tally();
                (tally.left(), tally.left_count())
            };
            if left.is_empty() {
                return Ok(());
            }
            self.files(left).await?;
            if self.tally().left_count() == count {
                return Ok(());
            }
        }
    }

    async fn files(&self, files: Vec<(Source, Selection)>) -> Result<()> {
        let files = stream::iter(files).map(|(source, selection)| self.file(source, selection));
        let mut files = files.buffer_unordered(self.jobs);
        while let Some(outcome) = files.next().await {
            outcome?;
        }
        Ok(())
    }

    async fn file(&self, source: Source, selection: Selection) -> Result<()> {
        let is_first = matches!(selection, Selection::Everything);
        let mut requests = request::requests(source.clone(), selection);
        while let Some(request) = requests.recv().await {
            match request {
                Ok(request) => {
                    let outcome = self.sender.send(&request).await?;
                    if is_first {
                        self.tally().add(&source, &request, outcome);
                        self.bar.inc(request.weight);
                    } else {
                        self.tally().add_again(&source, &request, outcome);
                    }
                }
                Err(unreadable) if is_first => self.tally().add_unreadable(&source, unreadable),
                // It was reported the first time.
                Err(_) => {}
            }
            self.bar.set_message(self.tally().rate());
        }
        Ok(())
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
