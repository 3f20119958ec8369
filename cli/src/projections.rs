//! `nexus projections`: what an operator sees of read models and does with them. The work is in `projections/src/engine`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use nexus_event_store::{Keyring, MasterKey};
use nexus_projections::engine::parked::{DiscardArgs, ListArgs, Operator, RetryArgs};
use nexus_projections::engine::rebuild::VersionsAction;
use tokio_util::sync::CancellationToken;

use crate::stack::{self, Stack};

/// What may be done to parked events is what the projector may do.
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
    #[command(flatten)]
    Versions(VersionsAction),
}

pub async fn run(stack: &Stack, command: Projections) -> Result<ExitCode> {
    let out = &mut std::io::stdout();
    match command {
        Projections::Parked(options) => operator(stack).await?.list(&options, out).await,
        Projections::Retry(options) => operator(stack).await?.retry(&options, keyring(stack).await?, out).await,
        Projections::Discard(options) => operator(stack).await?.discard(&options, out).await,
        Projections::Versions(action) => {
            let sources = stack::rebuild_sources(stack).await?;
            action.run(&sources, out, &when_interrupted()).await
        }
    }
}

async fn operator(stack: &Stack) -> Result<Operator> {
    let read = stack::connect_as(stack, ROLE, "nexus_read").await?;
    Operator::connect((*read.connect_options()).clone()).await
}

async fn keyring(stack: &Stack) -> Result<Keyring> {
    let master = MasterKey::from_file(stack.secret_file("master.key"))?;
    let keys = stack::connect_as(stack, ROLE, "nexus_keys").await?;
    Keyring::connect(keys, master).await.context("the key database")
}

/// Cancelled by Ctrl-C: what is under way then ends in order.
fn when_interrupted() -> CancellationToken {
    let stop = CancellationToken::new();
    let interrupted = stop.clone();
    tokio::spawn(async move {
        // Without a handler Ctrl-C ends the program, which is as safe.
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
    });
    stop
}
