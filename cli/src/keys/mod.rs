//! `nexus keys`: what an operator sees of keys and does with them. The work is in `event-store/src/keyring`.
//!
//! Without options these commands act on the local stack; with `--keys-url` and the settings of the master key, on any
//! installation, as the owner of its key database.

mod erasure_checks;
mod rotate_generation;
mod rotate_master;
mod rotate_subject;
mod status;
mod verify_erasure;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use nexus_event_store::{MasterKey, MasterKeyArgs};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::stack::{self, Stack};

const CONNECTIONS: u32 = 2;

#[derive(Subcommand)]
pub enum Keys {
    /// Show what is still under which key.
    #[command(after_help = "Example:\n  ./nexus keys status --json | jq .generations")]
    Status(status::Options),
    /// Replace keys while everything runs. What was sealed before stays readable.
    #[command(subcommand)]
    Rotate(Rotate),
    /// Check in every store that an erased patient is gone; fails if anything is left.
    #[command(after_help = "Example:\n  ./nexus keys verify-erasure 7cd3260f-2795-3080-b267-3bb0a9f40624 --json")]
    VerifyErasure(verify_erasure::Options),
}

#[derive(Subcommand)]
pub enum Rotate {
    /// Wrap everything that the master key wraps by another one: a new file, a newer version in Vault, or Vault instead of a
    /// file.
    #[command(after_help = "Examples:\n  ./nexus keys rotate master\n  \
        ./nexus keys rotate master --master-key-file old.key --new-file new.key\n  \
        ./nexus keys rotate master --master-key-file old.key --vault-addr https://vault:8200 --vault-token-file token")]
    Master(rotate_master::Options),
    /// Begin a new generation key and wrap every subject's keys under it.
    #[command(after_help = "Example:\n  ./nexus keys rotate generation --keys-per-second 2000")]
    Generation(rotate_generation::Options),
    /// Give one subject another data key for what is sealed from now on.
    #[command(after_help = "Example:\n  ./nexus keys rotate subject 7cd3260f-2795-3080-b267-3bb0a9f40624")]
    Subject(rotate_subject::Options),
}

pub async fn run(stack: impl FnOnce() -> Result<Stack>, command: &Keys) -> Result<ExitCode> {
    match command {
        Keys::Status(options) => status::run(stack, options).await,
        Keys::Rotate(Rotate::Master(options)) => rotate_master::run(stack, options).await,
        Keys::Rotate(Rotate::Generation(options)) => rotate_generation::run(stack, options).await,
        Keys::Rotate(Rotate::Subject(options)) => rotate_subject::run(stack, options).await,
        Keys::VerifyErasure(options) => verify_erasure::run(stack, options).await,
    }
}

/// Where the key database is.
#[derive(Args)]
pub struct Database {
    /// The key database, as its owner; the local stack's when not given.
    #[arg(long, env = "NEXUS_KEYS_URL", hide_env_values = true, value_name = "URL")]
    keys_url: Option<String>,
}

impl Database {
    async fn connect(&self, stack: impl FnOnce() -> Result<Stack>) -> Result<PgPool> {
        match &self.keys_url {
            Some(url) => {
                PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await.context("the key database")
            }
            None => stack::connect_as_owner(&stack()?, "nexus_keys").await,
        }
    }
}

/// The key database and the key that it needs.
#[derive(Args)]
pub struct Store {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    master_key: MasterKeyArgs,
}

impl Store {
    async fn open(&self, stack: impl FnOnce() -> Result<Stack>) -> Result<(PgPool, MasterKey)> {
        if self.master_key.is_given() {
            return Ok((self.database.connect(stack).await?, self.master_key.open()?));
        }
        let stack = stack()?;
        let master = MasterKey::from_file(stack.secret_file("master.key"))?;
        Ok((self.database.connect(|| Ok(stack)).await?, master))
    }
}
