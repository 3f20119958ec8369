//! `nexus projections`: the read models of the local stack. The work is in `projections/src/engine`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use nexus_projections::engine::rebuild::VersionsAction;

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
            action.run(&sources, &mut std::io::stdout(), &nexus_web::shutdown::on_signal()).await
        }
    }
}
