//! `nexus keys status`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use nexus_event_store::keyring::{self, KeyStatus};

use super::Database;
use crate::output;
use crate::stack::Stack;

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    database: Database,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(stack: impl FnOnce() -> Result<Stack>, options: &Options) -> Result<ExitCode> {
    let status = keyring::status(&options.database.connect(stack).await?).await?;
    if options.json {
        output::line(serde_json::to_string_pretty(&status)?);
    } else {
        print(&status);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(status: &KeyStatus) {
    output::line("master key                      wraps");
    for (master, keys) in &status.masters {
        output::line(format_args!("  {master:<28} {keys:>6} keys"));
    }
    output::line("generation   current  retired  wraps reserved  since       wrapped by");
    for it in &status.generations {
        let (id, current, retired, since) = (it.id, it.keys_current, it.keys_retired, it.created_at.format("%F"));
        let reserved = percent(it.wraps_reserved, it.wraps_max);
        output::line(format_args!("  {id:>8} {current:>9} {retired:>8} {reserved:>15}  {since}  {}", it.wrapped_by));
    }
    let oldest = status.oldest_current.map_or("none".to_owned(), |oldest| oldest.format("%F").to_string());
    output::line(format_args!("subjects       {} with a key (the oldest from {oldest})", status.subjects));
    output::line(format_args!("               {} erased", status.subjects_erased));
    output::line(format_args!("retired keys   {} that only open what they sealed", status.keys_retired));
    let most = percent(status.seals_most, status.seals_max);
    output::line(format_args!("most used key  {} seals ({most} of its limit)", status.seals_most));
    if status.keys_worn > 0 {
        let worn = status.keys_worn;
        output::line(format_args!("               {worn} are past it: replaced before their subject's next append"));
    }
}

fn percent(part: i64, whole: i64) -> String {
    let thousandths = i128::from(part) * 1_000 / i128::from(whole.max(1));
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}

#[cfg(test)]
mod tests {
    #[test]
    fn shares_are_told_to_a_tenth() {
        assert_eq!(super::percent(1, 3), "33.3 %");
        assert_eq!(super::percent(i64::MAX, i64::MAX), "100.0 %");
        assert_eq!(super::percent(0, 0), "0.0 %");
    }
}
