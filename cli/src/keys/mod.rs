//! `nexus keys`: what an operator sees of keys and does with them. The work is in `event-store/src/keyring`.

mod erasure_checks;
mod verify_erasure;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::stack::Stack;

#[derive(Subcommand)]
pub enum Keys {
    /// Check in every store that an erased patient is gone; fails if anything is left.
    #[command(after_help = "Example:\n  ./nexus keys verify-erasure 7cd3260f-2795-3080-b267-3bb0a9f40624 --json")]
    VerifyErasure(verify_erasure::Options),
}

pub async fn run(stack: impl FnOnce() -> Result<Stack>, command: &Keys) -> Result<ExitCode> {
    match command {
        Keys::VerifyErasure(options) => verify_erasure::run(stack, options).await,
    }
}
