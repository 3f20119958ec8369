//! `projector parked`: what an operator can do about parked events. It works beside running projectors.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use nexus_event_store::{Keyring, MasterKeyArgs, database_options};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use uuid::Uuid;

use super::{ParkedSubject, Retry, discard, list, next_subject};
use crate::engine::checkpoint::Name;
use crate::engine::versions;
use crate::read_model::ReadModel;
use crate::registry::all_read_models;

/// List what could not be applied, try it again, or give it up.
///
/// An event that can't be read or applied is parked, and every later event of the same subject waits behind it, in order.
/// `docs/how-to/parked-events.md` says what to do when.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "parked")]
pub struct ParkedCommand {
    /// The read database, as the projector's role.
    #[arg(long, env = "NEXUS_READ_URL", hide_env_values = true)]
    read_url: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Show the parked subjects, oldest first: where each stops, why, since when, and how many events are waiting.
    List(ListArgs),
    /// Apply what is parked, in order. A subject that fails again stays where it stops; then the exit code is 1.
    Retry {
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        retry: RetryArgs,
    },
    /// Give one event up for good: this read model will never show it. What waits behind it then needs a retry.
    Discard(DiscardArgs),
}

/// What to list.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Of this read model; of all unless given.
    #[arg(long, value_parser = read_model)]
    read_model: Option<&'static str>,
    /// Subjects of each read model at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What to apply.
#[derive(Args, Clone, Debug)]
pub struct RetryArgs {
    #[arg(long, value_parser = read_model)]
    read_model: &'static str,
    /// Of this subject; of all unless given.
    #[arg(long)]
    subject: Option<Uuid>,
}

/// What to give up.
#[derive(Args, Clone, Debug)]
pub struct DiscardArgs {
    #[arg(long, value_parser = read_model)]
    read_model: &'static str,
    #[arg(long)]
    subject: Uuid,
    /// The event's position in its partition, as the list shows it.
    #[arg(long)]
    position: i64,
}

/// The keys that an operator's command opens events with.
#[derive(Args, Clone, Debug)]
pub(crate) struct Keys {
    /// The key database.
    #[arg(long, env = "NEXUS_KEYS_URL", hide_env_values = true)]
    keys_url: String,
    #[command(flatten)]
    master_key: MasterKeyArgs,
}

impl ParkedCommand {
    /// Does what was asked for and says so.
    pub async fn run(self, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let read = database_options(&self.read_url).context("the URL of the read database")?;
        let operator = Operator::connect(read).await?;
        match self.action {
            Action::List(asked) => operator.list(&asked, out).await,
            Action::Retry { keys, retry } => operator.retry(&retry, keys.open().await?, out).await,
            Action::Discard(given_up) => operator.discard(&given_up, out).await,
        }
    }
}

/// Carries out what operators want of parked events, wherever they said so.
pub struct Operator {
    read: PgConnectOptions,
    pool: PgPool,
}

impl Operator {
    /// Connects to the read database, as the projector's role.
    pub async fn connect(read: PgConnectOptions) -> anyhow::Result<Self> {
        let pool = pool(read.clone()).await.context("the read database")?;
        Ok(Self { read, pool })
    }

    /// Shows the parked subjects.
    pub async fn list(&self, asked: &ListArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        show(&self.pool, asked, out).await
    }

    /// Applies what is parked; fails by the exit code if some of it still can't be.
    pub async fn retry(&self, asked: &RetryArgs, keyring: Keyring, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let model = model(asked.read_model)?;
        let Some(name) = versions::served(&self.pool, model.as_ref()).await? else {
            bail!("what is served of {} was made by another version of the program, which has to retry", model.name());
        };
        let retry = Retry::new(&self.read, keyring, model, name.version);
        match asked.subject {
            Some(subject) => Ok(exit_code(retry_one(&retry, subject, out).await?)),
            None => retry_all(&retry, &self.pool, name, out).await,
        }
    }

    /// Gives one event up; an error if it is not parked.
    pub async fn discard(&self, asked: &DiscardArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let DiscardArgs { read_model, subject, position } = asked;
        let name = served(&self.pool, read_model).await?;
        if !discard(&self.pool, name, *subject, *position).await? {
            bail!("{read_model} has no parked event of {subject} at position {position}");
        }
        writeln!(out, "{subject}: position {position} is given up")?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Keys {
    pub(crate) async fn open(&self) -> anyhow::Result<Keyring> {
        let master = self.master_key.open()?;
        let keys = database_options(&self.keys_url).context("the URL of the key database")?;
        Ok(Keyring::connect(pool(keys).await.context("the key database")?, master).await?)
    }
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    read_model: &'static str,
    version: i32,
    #[serde(flatten)]
    parked: ParkedSubject,
}

async fn show(pool: &PgPool, asked: &ListArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let &ListArgs { read_model: of, limit, json } = asked;
    let mut listed = Vec::new();
    for model in all_read_models().into_iter().filter(|model| of.is_none_or(|name| name == model.name())) {
        let name = served(pool, model.name()).await?;
        let subjects = list(pool, name, limit).await?.into_iter();
        listed.extend(subjects.map(|parked| Listed { read_model: model.name(), version: name.version, parked }));
    }
    if json {
        writeln!(out, "{}", serde_json::to_string(&listed)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for Listed { read_model, parked, .. } in &listed {
        let ParkedSubject { subject, partition, position, reason, causes, attempts, waiting, since } = parked;
        let since = since.format("%Y-%m-%dT%H:%M:%SZ");
        writeln!(
            out,
            "{read_model} {subject}: stops at {partition}/{position} after {attempts} attempts ({reason}), \
             {waiting} waiting since {since}"
        )?;
        for cause in causes {
            writeln!(out, "    because: {cause}")?;
        }
    }
    if listed.is_empty() {
        writeln!(out, "nothing is parked")?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn retry_all(retry: &Retry, pool: &PgPool, name: Name<'_>, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let (mut subject, mut all_done) = (Uuid::nil(), true);
    while let Some(next) = next_subject(pool, name, subject).await? {
        all_done &= retry_one(retry, next, out).await?;
        subject = next;
    }
    Ok(exit_code(all_done))
}

/// Whether nothing of the subject is parked any more.
async fn retry_one(retry: &Retry, subject: Uuid, out: &mut impl Write) -> anyhow::Result<bool> {
    let retried = retry.subject(subject).await?;
    match &retried.stopped_at {
        None => writeln!(out, "{subject}: {} applied", retried.applied)?,
        Some((position, reason)) => {
            writeln!(out, "{subject}: {} applied, stops at position {position} ({reason})", retried.applied)?;
        }
    }
    Ok(retried.stopped_at.is_none())
}

fn exit_code(all_done: bool) -> ExitCode {
    if all_done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The registered name that is meant; an unknown one is refused, so that a misspelt one does not look empty.
pub(crate) fn read_model(name: &str) -> Result<&'static str, String> {
    let names: Vec<_> = all_read_models().iter().map(|model| model.name()).collect();
    names
        .iter()
        .find(|known| **known == name)
        .copied()
        .ok_or_else(|| format!("one of {} is expected", names.join(", ")))
}

pub(crate) fn model(name: &str) -> anyhow::Result<Arc<dyn ReadModel>> {
    all_read_models().into_iter().find(|model| model.name() == name).context("a read model that is not registered")
}

/// The version that readers see.
async fn served(pool: &PgPool, read_model: &'static str) -> anyhow::Result<Name<'static>> {
    let version = versions::active(&mut *pool.acquire().await?, read_model).await?;
    Ok(Name { read_model, version: version.with_context(|| format!("the read database has no {read_model}"))? })
}

async fn pool(database: PgConnectOptions) -> Result<PgPool, sqlx::Error> {
    PgPoolOptions::new().max_connections(1).connect_with(database.application_name("projector parked")).await
}
