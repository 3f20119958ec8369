//! `nexus keys rotate subject`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use nexus_event_store::keyring::rotate;
use serde_json::json;
use uuid::Uuid;

use super::Store;
use crate::output;
use crate::stack::Stack;

#[derive(Args)]
pub struct Options {
    /// Whose key: the id of a patient, or of a directory entry.
    subject: Uuid,
    #[command(flatten)]
    store: Store,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(stack: impl FnOnce() -> Result<Stack>, options: &Options) -> Result<ExitCode> {
    let (pool, master) = options.store.open(stack).await?;
    let key_id = rotate::subject(&pool, &master, options.subject).await?;
    if options.json {
        output::line(serde_json::to_string_pretty(&json!({"subject": options.subject, "keyId": key_id}))?);
    } else {
        output::line(format_args!("what is sealed for {} from now on is sealed with key {key_id}", options.subject));
    }
    Ok(ExitCode::SUCCESS)
}
