//! `nexus import`: files through the HTTP API, as any client would send them.
//!
//! Nothing is remembered here. Each request carries a key made from its content, so a second run, a run after Ctrl-C
//! and a retry after a lost answer all find what is there.

mod answer;
mod credentials;
mod minify;
mod report;
mod sender;
mod sniff;
mod source;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use futures::StreamExt as _;
use futures::stream;
use indicatif::ProgressBar;

use crate::stack::{Service, Stack};
use crate::{args, output};

use credentials::Credentials;
pub use report::Report;
use report::Tally;
use sender::Sender;
use source::Source;

const JOBS_DEFAULT: u16 = 4;

/// Sends files to the local stack's write door.
pub async fn into_stack(stack: &Stack, paths: Vec<PathBuf>) -> Result<Report> {
    let sender = Sender::new(Service::CommandApi.url(stack.ports), Credentials::of_stack(stack))?;
    send_all(sender, &paths, JOBS_DEFAULT).await.map(|(report, _)| report)
}

pub async fn run(stack: &Stack, options: &args::Import) -> Result<ExitCode> {
    let url = options.url.clone().unwrap_or_else(|| Service::CommandApi.url(stack.ports));
    let credentials = match &options.token_file {
        Some(path) => Credentials::of_file(path.clone()),
        None => Credentials::of_stack(stack),
    };
    let (report, ending) = send_all(Sender::new(url, credentials)?, &options.paths, options.jobs).await?;
    if let Some(path) = &options.report {
        let text = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))?;
    }
    if options.json {
        output::line(serde_json::to_string(&report)?);
    } else {
        report.print();
    }
    if ending == Ending::Interrupted {
        output::note("interrupted; run the same command again to go on where it stopped");
    }
    Ok(if report.refused == 0 && ending == Ending::Complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Complete,
    Interrupted,
}

async fn send_all(sender: Sender, paths: &[PathBuf], jobs: u16) -> Result<(Report, Ending)> {
    let paths = paths.to_vec();
    let phases = tokio::task::spawn_blocking(move || source::find(&paths)).await??;
    let run = Arc::new(Run {
        sender,
        tally: Mutex::new(Tally::new()),
        bar: report::bar(phases.iter().flatten().map(|source| source.size).sum()),
    });
    let ending = tokio::select! {
        outcome = run.phases(phases, jobs) => outcome.map(|()| Ending::Complete)?,
        _ = tokio::signal::ctrl_c() => Ending::Interrupted,
    };
    run.bar.finish_and_clear();
    Ok((run.tally().report(), ending))
}

struct Run {
    sender: Sender,
    tally: Mutex<Tally>,
    bar: ProgressBar,
}

impl Run {
    /// A phase leans on the ones before it; within a phase the order does not matter.
    async fn phases(self: &Arc<Self>, phases: Vec<Vec<Source>>, jobs: u16) -> Result<()> {
        for phase in phases {
            let files = stream::iter(phase).map(|source| {
                let run = Arc::clone(self);
                tokio::spawn(async move { run.file(source).await })
            });
            let mut files = files.buffer_unordered(usize::from(jobs));
            while let Some(outcome) = files.next().await {
                outcome??;
            }
        }
        Ok(())
    }

    async fn file(&self, source: Source) -> Result<()> {
        let name = source.path.display().to_string();
        let mut requests = source.requests().await?;
        while let Some(request) = requests.recv().await {
            match request {
                Ok(request) => {
                    let outcome = self.sender.send(&request).await?;
                    self.tally().add(&name, &request, outcome);
                    self.bar.inc(request.weight);
                }
                Err(error) => self.tally().add_unreadable(&name, &error),
            }
            self.bar.set_message(self.tally().rate());
        }
        Ok(())
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
