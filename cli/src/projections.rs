//! `nexus projections`: the read models of the local stack. The work is in `projections/src/engine`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use nexus_projections::engine::rebuild::VersionsAction;
use tokio_util::sync::CancellationToken;

use crate::stack::{self, Stack};

#[derive(Subcommand)]
pub enum Projections {
    #[command(flatten)]
    Versions(VersionsAction),
}

pub async fn run(stack: &Stack, command: Projections) -> Result<ExitCode> {
    match command {
        Projections::Versions(action) => {
            let sources = stack::rebuild_sources(stack).await?;
            action.run(&sources, &mut std::io::stdout(), &when_interrupted()).await
        }
    }
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
