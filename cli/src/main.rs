//! The `nexus` command: starts a whole installation on one machine, talks to it, and tests it.
//!
//! Thin on purpose: starting servers is in `infra/local`, schemas and topics belong to the crates that own them, and
//! the services are the same binaries that production runs.

mod args;
mod home;
mod http;
mod import;
mod keys;
mod output;
mod projections;
mod sample;
mod stack;
mod test;
mod token;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::args::{Cli, Command};
use crate::home::Home;
use crate::stack::Stack;

fn main() -> ExitCode {
    let outcome = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        let outcome = runtime.block_on(run(Cli::parse()));
        // A blocking wait that nobody needs any more must not hold up the end.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let home = Home::find(cli.home.as_deref())?;
    let stack = || Stack::open(&home, cli.port_base);
    match cli.command {
        Command::Up(options) => stack::up(&stack()?, &options).await,
        Command::Down => stack::down(&stack()?).await,
        Command::Status(options) => stack::status(&stack()?, &options).await,
        Command::Logs(options) => stack::logs(&stack()?, &options),
        Command::Token(options) => token::print(&stack()?, &options).await,
        Command::Import(options) => import::run(&stack()?, &options).await,
        Command::Sample(options) => sample::run(&home, &options),
        Command::Keys(command) => keys::run(stack, &command).await,
        Command::Projections(command) => projections::run(&stack()?, &command).await,
        Command::Certificates(command) => stack::certificates(&stack()?, &command),
        Command::Test(options) => test::run(&home, &options),
        Command::Supervise(options) => stack::supervise(&stack()?, &options).await,
    }
}
