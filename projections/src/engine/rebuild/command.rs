//! `projector versions`: what an operator sees of versions and does with them. It works beside running projectors.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use nexus_event_store::{ACCESS_SCHEMA, Keyring, LogReader, database_options, in_schema};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Comparison, OneSubject, Pace, Progress, Rebuild, Running, TableComparison};
use crate::engine::parked::{Keys, ParkedSubject, model, read_model};
use crate::engine::versions;
use crate::read_model::{Log, ReadModel};
use crate::registry::all_read_models;

/// How often progress is told to whoever is not a terminal.
const TELL_INTERVAL: Duration = Duration::from_secs(5);
const NAME_OF_ALL: &str = "all";
/// How far a rebuild lets others go first, from 0 to 19; see setpriority(2).
const NICENESS: i32 = 15;

/// See the versions of read models, fill one anew, switch, and drop what is not needed any more.
///
/// `docs/how-to/rebuild-a-read-model.md` says what to do when.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "versions")]
pub struct VersionsCommand {
    #[command(flatten)]
    databases: Databases,
    #[command(subcommand)]
    action: VersionsAction,
}

#[derive(Args, Clone, Debug)]
struct Databases {
    /// The read database, as the owner of its schemas.
    #[arg(long, env = "NEXUS_READ_OWNER_URL", hide_env_values = true)]
    read_owner_url: String,
    /// The log database, as the projector's role.
    #[arg(long, env = "NEXUS_LOG_URL", hide_env_values = true)]
    log_url: String,
    #[command(flatten)]
    keys: Keys,
}

/// What can be done with versions.
#[derive(Clone, Debug, Subcommand)]
pub enum VersionsAction {
    /// Show the versions of every read model: which is served, which are kept, which are being filled.
    #[command(after_help = "Example:\n  ./nexus projections versions --json | jq '.[] | select(.active)'")]
    Versions {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fill a version of a read model anew from the log, compare it with the one that is served, and switch to it. Stopped
    /// or killed, the same command goes on where it was; `drop` cancels it.
    #[command(after_help = "Examples:\n  ./nexus projections rebuild vital_signs\n  \
        ./nexus projections rebuild all --share 25\n  \
        ./nexus projections rebuild patient_chart --subject 7cd3260f-2795-3080-b267-3bb0a9f40624")]
    Rebuild(RebuildOptions),
    /// Bring a version that is kept level with the log again, and serve it.
    #[command(after_help = "Example:\n  ./nexus projections switch vital_signs --to 3")]
    Switch {
        #[arg(value_parser = read_model)]
        read_model: &'static str,
        /// The version to serve.
        #[arg(long, value_name = "VERSION")]
        to: i32,
        #[command(flatten)]
        pace: PaceArgs,
    },
    /// Delete a version that is not served, kept or half filled, with its tables.
    #[command(after_help = "Example:\n  ./nexus projections drop vital_signs --version 3")]
    Drop {
        #[arg(value_parser = read_model)]
        read_model: &'static str,
        #[arg(long)]
        version: i32,
    },
}

#[derive(Args, Clone, Debug)]
pub struct RebuildOptions {
    /// The read model, or `all`.
    #[arg(value_parser = read_model_or_all)]
    read_model: &'static str,
    /// Make only the rows of this subject anew, in the version that is served.
    #[arg(long, value_name = "ID")]
    subject: Option<Uuid>,
    /// Fill (or, with --subject, make) and compare, but change nothing that is served.
    #[arg(long)]
    no_switch: bool,
    /// Switch although rows differ from the ones that are served.
    #[arg(long)]
    accept_differences: bool,
    #[command(flatten)]
    pace: PaceArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// How much of the machine it may take.
#[derive(Args, Clone, Copy, Debug)]
pub struct PaceArgs {
    /// Partitions that are filled at a time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=32), value_name = "N")]
    jobs: u32,
    /// Of the time, how many percent each of them works. Less leaves more for those who use the platform meanwhile.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100), value_name = "PERCENT")]
    share: u32,
}

impl PaceArgs {
    fn pace(self) -> Pace {
        Pace { jobs: self.jobs, share: self.share }
    }
}

/// What the actions need.
pub struct Sources {
    /// The read database, as the owner of its schemas.
    pub read: PgConnectOptions,
    /// The log database, as the projector's role.
    pub log: PgConnectOptions,
    pub keyring: Keyring,
}

impl VersionsCommand {
    /// Does what was asked for and says so.
    pub async fn run(self, out: &mut impl Write, stop: &CancellationToken) -> anyhow::Result<ExitCode> {
        let Databases { read_owner_url, log_url, keys } = self.databases;
        let sources = Sources {
            read: database_options(&read_owner_url).context("the URL of the read database")?,
            log: database_options(&log_url).context("the URL of the log database")?,
            keyring: keys.open().await?,
        };
        self.action.run(&sources, out, stop).await
    }
}

impl VersionsAction {
    /// Does it; the exit code is 1 if versions differ and therefore nothing was switched.
    pub async fn run(
        self,
        sources: &Sources,
        out: &mut impl Write,
        stop: &CancellationToken,
    ) -> anyhow::Result<ExitCode> {
        match self {
            Self::Versions { json } => show(sources, json, out).await,
            Self::Rebuild(options) => {
                give_way();
                rebuild(sources, &options, out, stop).await
            }
            Self::Switch { read_model, to, pace } => {
                give_way();
                let rebuild = sources.rebuild(read_model, pace.pace())?;
                let running = rebuild.return_to(to).await?;
                fill(&running, read_model, stop).await?;
                running.switch(stop).await?;
                say_switched(&running, read_model, out)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Drop { read_model, version } => {
                sources.rebuild(read_model, Pace::default())?.drop_version(version).await?;
                writeln!(out, "{read_model}: version {version} is gone")?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl Sources {
    fn rebuild(&self, read_model: &str, pace: Pace) -> anyhow::Result<Rebuild> {
        let model = model(read_model)?;
        let log = match model.log() {
            Log::Events => self.log.clone(),
            Log::Access => in_schema(self.log.clone(), ACCESS_SCHEMA),
        };
        let log = log.application_name("projector rebuild");
        let log = LogReader::new(PgPoolOptions::new().max_connections(pace.jobs).connect_lazy_with(log));
        Ok(Rebuild::new(&self.read, log, self.keyring.clone(), model, pace))
    }
}

/// Lets every other process of this machine go first. One that can't is only less considerate.
fn give_way() {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for thread in threads.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        rustix::process::setpriority_process(rustix::process::Pid::from_raw(thread), NICENESS).ok();
    }
}

/// The read models of which another version of the program has made what is served.
pub async fn outdated(read: &PgPool) -> anyhow::Result<Vec<&'static str>> {
    let versions = versions::all(read).await.context("the read database")?;
    let is_own = |model: &dyn ReadModel| {
        versions.iter().any(|it| it.active && it.read_model == model.name() && it.fold == model.version())
    };
    let models = all_read_models().into_iter().filter(|model| !is_own(model.as_ref()));
    Ok(models.map(|model| model.name()).collect())
}

/// Fills read models with this program's folds and switches to them: their rows are expected to be different.
pub async fn upgrade(
    sources: &Sources,
    read_models: &[&'static str],
    out: &mut impl Write,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    for read_model in read_models {
        let rebuild = sources.rebuild(read_model, Pace { share: 100, ..Pace::default() })?;
        let running = rebuild.begin().await?;
        fill(&running, read_model, stop).await?;
        running.switch(stop).await?;
        say_switched(&running, read_model, out)?;
    }
    Ok(())
}

async fn show(sources: &Sources, json: bool, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let versions = versions::all(&pool(&sources.read).await.context("the read database")?).await?;
    if json {
        writeln!(out, "{}", serde_json::to_string(&versions)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for it in versions {
        let state = match (it.active, it.served_at) {
            (true, Some(since)) => format!("served since {}", since.format("%Y-%m-%dT%H:%M:%SZ")),
            (true, None) => "served".to_owned(),
            (false, Some(_)) => "kept".to_owned(),
            (false, None) => "being filled".to_owned(),
        };
        writeln!(out, "{:<20} version {:>3} (fold {:>2})  {state}", it.read_model, it.version, it.fold)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn rebuild(
    sources: &Sources,
    options: &RebuildOptions,
    out: &mut impl Write,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    if let Some(subject) = options.subject {
        return one_subject(sources, options, subject, out).await;
    }
    let mut code = ExitCode::SUCCESS;
    let is_meant = |name: &str| options.read_model == NAME_OF_ALL || options.read_model == name;
    for model in all_read_models().into_iter().filter(|model| is_meant(model.name())) {
        if !rebuild_one(sources, model.name(), options, out, stop).await? {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// False if the versions differ and nothing was switched.
async fn rebuild_one(
    sources: &Sources,
    read_model: &'static str,
    options: &RebuildOptions,
    out: &mut impl Write,
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    let rebuild = sources.rebuild(read_model, options.pace.pace())?;
    let running = rebuild.begin().await?;
    let started = Instant::now();
    fill(&running, read_model, stop).await?;
    let comparison = running.compare(stop).await?;
    let may_switch = comparison.is_equal() || options.accept_differences;
    let switches = may_switch && !options.no_switch;
    if switches {
        running.switch(stop).await?;
    }
    if options.json {
        let seconds = started.elapsed().as_secs_f64();
        let done =
            Rebuilt { read_model, comparison: &comparison, equal: comparison.is_equal(), switched: switches, seconds };
        writeln!(out, "{}", serde_json::to_string(&done)?)?;
        return Ok(may_switch);
    }
    say_compared(read_model, &comparison, started.elapsed(), out)?;
    match (switches, may_switch) {
        (true, _) => say_switched(&running, read_model, out)?,
        (false, true) => writeln!(out, "{read_model}: version {} waits for the switch", running.version())?,
        (false, false) => writeln!(
            out,
            "{read_model}: version {} is still served; --accept-differences switches all the same, `drop` cancels",
            running.served_version()
        )?,
    }
    Ok(may_switch)
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Rebuilt<'a> {
    read_model: &'static str,
    equal: bool,
    switched: bool,
    seconds: f64,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

async fn fill(running: &Running<'_>, read_model: &str, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut told = None;
    running.fill(stop, |progress| tell(running, read_model, progress, &mut told)).await?;
    if std::io::stderr().is_terminal() {
        writeln!(std::io::stderr())?;
    }
    Ok(())
}

/// To whoever watches: a line that is written over, or one now and then.
fn tell(running: &Running<'_>, read_model: &str, progress: Progress, told: &mut Option<Instant>) {
    let terminal = std::io::stderr().is_terminal();
    if !terminal && told.is_some_and(|told| told.elapsed() < TELL_INTERVAL) {
        return;
    }
    *told = Some(Instant::now());
    let Progress { applied, target, rate, left } = progress;
    let left = left.map_or("?".to_owned(), |left| format!("{:.0} s", left.as_secs_f64()));
    let (start, end) = if terminal { ("\r\x1b[2K", "") } else { ("", "\n") };
    let version = running.version();
    // Who watches may have stopped watching; that stops nothing.
    write!(
        std::io::stderr(),
        "{start}{read_model}: version {version}: {applied} of {target} events, {rate:.0}/s, {left} left{end}"
    )
    .ok();
}

fn say_compared(read_model: &str, comparison: &Comparison, took: Duration, out: &mut impl Write) -> anyhow::Result<()> {
    let Comparison { served_version, version, events, parked_served, parked_new, parked, tables } = comparison;
    let rows: i64 = tables.iter().map(|it| it.same).sum();
    let verdict = if comparison.is_equal() { "equal" } else { "DIFFERENT" };
    let seconds = took.as_secs_f64();
    writeln!(
        out,
        "{read_model}: versions {served_version} and {version} after {events} events are {verdict}: \
         {rows} rows in common, {} tables ({seconds:.1} s)",
        tables.len()
    )?;
    if parked_served + parked_new > 0 {
        writeln!(
            out,
            "  {parked_served} events are parked in version {served_version}, {parked_new} in version {version}"
        )?;
    }
    for ParkedSubject { subject, partition, position, reason, waiting, .. } in parked {
        writeln!(out, "    {subject} at {partition}/{position} ({reason}), {waiting} waiting (version {version})")?;
    }
    say_differences(tables, &format!("version {served_version}"), &format!("version {version}"), out)
}

fn say_differences(tables: &[TableComparison], old: &str, new: &str, out: &mut impl Write) -> anyhow::Result<()> {
    for it in tables {
        if !it.columns_apart.is_empty() {
            writeln!(out, "  {}: not compared: {}", it.table, it.columns_apart.join(", "))?;
        }
        if it.only_served + it.only_new > 0 {
            writeln!(out, "  {}: {} rows only in {old}, {} only in {new}", it.table, it.only_served, it.only_new)?;
        }
        for difference in &it.differences {
            writeln!(out, "    {} (version {})", difference.key, difference.version)?;
        }
    }
    Ok(())
}

fn say_switched(running: &Running<'_>, read_model: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let (old, new) = (running.served_version(), running.version());
    writeln!(out, "{read_model}: version {new} is served; version {old} is kept until it is dropped")?;
    Ok(())
}

async fn one_subject(
    sources: &Sources,
    options: &RebuildOptions,
    subject: Uuid,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let name = options.read_model;
    if name == NAME_OF_ALL || model(name)?.log() != Log::Events {
        bail!("--subject needs one read model that is made from the log of events");
    }
    let done = sources.rebuild(name, options.pace.pace())?.subject(subject, options.no_switch).await?;
    if options.json {
        writeln!(out, "{}", serde_json::to_string(&done)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let OneSubject { version, events, unparked, tables, .. } = &done;
    let verdict = if done.is_equal() { "as they were" } else { "DIFFERENT" };
    let kept = if options.no_switch { "; nothing was changed" } else { "" };
    writeln!(out, "{name}: {events} events of {subject} give rows that are {verdict} in version {version}{kept}")?;
    if *unparked > 0 {
        writeln!(out, "  {unparked} events are no longer parked")?;
    }
    say_differences(tables, "the rows before", "the rows after", out)?;
    Ok(ExitCode::SUCCESS)
}

fn read_model_or_all(name: &str) -> Result<&'static str, String> {
    if name == NAME_OF_ALL { Ok(NAME_OF_ALL) } else { read_model(name) }
}

async fn pool(database: &PgConnectOptions) -> Result<PgPool, sqlx::Error> {
    let database = database.clone().application_name("projector versions");
    PgPoolOptions::new().max_connections(1).connect_with(database).await
}
