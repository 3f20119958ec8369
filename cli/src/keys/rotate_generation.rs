//! `nexus keys rotate generation`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use nexus_event_store::keyring::rotate::{self, Pace};

use super::Store;
use crate::output;
use crate::stack::Stack;

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    store: Store,
    /// How many keys to wrap anew per second at most, so that the services notice little.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
    keys_per_second: u32,
    /// How many keys to change in one transaction.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    batch: u32,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(stack: impl FnOnce() -> Result<Stack>, options: &Options) -> Result<ExitCode> {
    let (pool, master) = options.store.open(stack).await?;
    let pace = Pace { batch: options.batch, keys_per_second: options.keys_per_second };
    let bar = output::progress(0);
    let rotated = rotate::generation(&pool, &master, pace, |so_far| {
        bar.set_length(so_far.of.max(so_far.keys));
        bar.set_position(so_far.keys);
    })
    .await;
    bar.finish_and_clear();
    let rotated = rotated?;
    if options.json {
        output::line(serde_json::to_string_pretty(&rotated)?);
    } else {
        let verb = if rotated.resumed { "finished" } else { "begun" };
        output::line(format_args!(
            "generation {} is {verb}; {} keys wrapped anew",
            rotated.generation, rotated.rewrapped
        ));
        if rotated.left_behind > 0 {
            output::line(format_args!("{} keys can't be unwrapped and stay as they are", rotated.left_behind));
        }
    }
    Ok(if rotated.left_behind == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
