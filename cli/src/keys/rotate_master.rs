//! `nexus keys rotate master`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use nexus_event_store::MasterKey;
use nexus_event_store::MasterKeyArgs;
use nexus_event_store::keyring::rotate::{self, MasterRotation};

use super::Database;
use crate::output;
use crate::stack::Stack;

/// A file is what wraps now; Vault is what shall wrap, or, without a file, what wraps now, with a newer version of its key.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    master_key: MasterKeyArgs,
    /// The file of the new master key, made if it does not exist. Without it, a new key takes the place of the file.
    #[arg(long, value_name = "FILE")]
    new_file: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What is done, once the settings are sorted out.
enum Plan {
    /// From one master key to another that stays where it is.
    Move { from: MasterKey, to: MasterKey },
    /// A new file in the place of the old one.
    Replace { file: PathBuf },
}

pub async fn run(stack: impl FnOnce() -> Result<Stack>, options: &Options) -> Result<ExitCode> {
    let stack = std::cell::LazyCell::new(stack);
    let local = || stack.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"));
    let plan = plan(options, || Ok(local()?.secret_file("master.key")))?;
    let pool = options.database.connect(|| local().cloned()).await?;
    let (rotated, kept) = match plan {
        Plan::Move { from, to } => (rotate::master(&pool, &from, &to).await?, None),
        Plan::Replace { file } => {
            let (rotated, kept) = replace(&pool, &file).await?;
            (rotated, Some(kept))
        }
    };
    report(&rotated, kept.as_deref(), options.json)?;
    Ok(ExitCode::SUCCESS)
}

fn plan(options: &Options, local_file: impl FnOnce() -> Result<PathBuf>) -> Result<Plan> {
    let given = &options.master_key;
    let file = match (&given.master_key_file, given.vault()?) {
        (Some(file), Some(vault)) => {
            ensure!(options.new_file.is_none(), "either a new file or Vault: they can't both be the new master key");
            return Ok(Plan::Move { from: MasterKey::from_file(file)?, to: vault });
        }
        (None, Some(vault)) => {
            let to = options.new_file.as_deref().map(made).transpose()?.unwrap_or(vault.clone());
            return Ok(Plan::Move { from: vault, to });
        }
        (Some(file), None) => file.clone(),
        (None, None) => local_file()?,
    };
    match &options.new_file {
        Some(new) => Ok(Plan::Move { from: MasterKey::from_file(&file)?, to: made(new)? }),
        None => Ok(Plan::Replace { file }),
    }
}

fn made(file: &Path) -> Result<MasterKey> {
    if !file.exists() {
        MasterKey::generate_file(file)?;
    }
    Ok(MasterKey::from_file(file)?)
}

/// Each step can be the last before a kill; the next run finds the new key beside the old one and goes on with it.
async fn replace(pool: &sqlx::PgPool, file: &Path) -> Result<(MasterRotation, PathBuf)> {
    let (new, kept) =
        (beside(file, "new"), beside(file, &format!("until-{}", chrono::Utc::now().format("%Y%m%dT%H%M%SZ"))));
    let to = made(&new)?;
    let rotated = rotate::master(pool, &MasterKey::from_file(file)?, &to).await?;
    std::fs::hard_link(file, &kept).with_context(|| format!("can't keep the old key as {}", kept.display()))?;
    std::fs::rename(&new, file).with_context(|| format!("can't put the new key in place: it is {}", new.display()))?;
    Ok((rotated, kept))
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn report(rotated: &MasterRotation, kept: Option<&Path>, json: bool) -> Result<()> {
    if json {
        let mut report = serde_json::to_value(rotated)?;
        report["oldKeyFile"] = serde_json::to_value(kept)?;
        output::line(serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    let MasterRotation { generations, secrets, wrapped_by } = rotated;
    output::line(format_args!("wrapped by {wrapped_by}: generation keys {generations}, secrets {secrets}"));
    if let Some(kept) = kept {
        output::line(format_args!("the old key is {}: older backups of the key store need it", kept.display()));
    }
    Ok(())
}
