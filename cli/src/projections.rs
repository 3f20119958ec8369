//! `nexus projections`: what an operator sees of read models and does with them. The work is in `projections/src/engine`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use nexus_event_store::{Keyring, MasterKey};
use nexus_projections::engine::parked::{DiscardArgs, ListArgs, Operator, RetryArgs};

use crate::stack::{self, Stack};

/// What may be done here is what the projector may do.
const ROLE: &str = "nexus_projector";

#[derive(Subcommand)]
pub enum Projections {
    /// Show what could not be applied: where each subject stops, why, since when, and how many events are waiting.
    #[command(after_help = "Example:\n  ./nexus projections parked --read-model patient_chart --json")]
    Parked(ListArgs),
    /// Apply what is parked, in order. A subject that fails again stays where it stops; then the exit code is 1.
    #[command(after_help = "Example:\n  ./nexus projections retry --read-model patient_chart")]
    Retry(RetryArgs),
    /// Give one event up for good: the read model will never show it. What waits behind it then needs a retry.
    #[command(
        after_help = "Example:\n  ./nexus projections discard --read-model patient_chart --subject ID --position 1042"
    )]
    Discard(DiscardArgs),
}

pub async fn run(stack: &Stack, command: &Projections) -> Result<ExitCode> {
    let read = stack::connect_as(stack, ROLE, "nexus_read").await?;
    let operator = Operator::connect((*read.connect_options()).clone()).await?;
    let out = &mut std::io::stdout();
    match command {
        Projections::Parked(options) => operator.list(options, out).await,
        Projections::Retry(options) => operator.retry(options, keyring(stack).await?, out).await,
        Projections::Discard(options) => operator.discard(options, out).await,
    }
}

async fn keyring(stack: &Stack) -> Result<Keyring> {
    let master = MasterKey::from_file(stack.secret_file("master.key"))?;
    let keys = stack::connect_as(stack, ROLE, "nexus_keys").await?;
    Keyring::connect(keys, master).await.context("the key database")
}
