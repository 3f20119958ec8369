//! The command line; `--help` is its reference.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use nexus_local::Ports;

use crate::projections::Projections;
use crate::stack::{self, Certificates, IdentityProvider};
use crate::{chaos, keys};

/// NexusHealth on one machine: start it, fill it, ask it, test it.
#[derive(Parser)]
#[command(name = "nexus", version, after_help = "Example:\n  ./nexus up && ./nexus status")]
pub struct Cli {
    /// First of the ports of a stack, which lie in a row; several stacks on one machine differ by it.
    #[arg(long, global = true, env = "NEXUS_PORT_BASE", default_value_t = Ports::DEFAULT_BASE, value_name = "N")]
    pub port_base: u16,

    /// The checkout; found from the current folder when not given.
    #[arg(long, global = true, env = "NEXUS_HOME", hide = true)]
    pub home: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Start everything, load the sample patients, and say how to go on.
    #[command(after_help = "Example:\n  ./nexus up --port-base 7500 --no-sample")]
    Up(Up),
    /// Stop everything; the data stays.
    #[command(after_help = "Example:\n  ./nexus down")]
    Down,
    /// Show what runs where; fails unless everything is ready.
    #[command(after_help = "Example:\n  ./nexus status --json | jq .ready")]
    Status(Status),
    /// Print a bearer token of a demo account.
    #[command(after_help = "Example:\n  curl -H \"Authorization: Bearer $(./nexus token nurse)\" …")]
    Token(Token),
    /// Show the logs of one service or of all.
    #[command(after_help = "Example:\n  ./nexus logs relay -f")]
    Logs(Logs),
    /// Send FHIR bundles or NDJSON through the HTTP API.
    #[command(after_help = "Example:\n  ./nexus import patients/ more.ndjson.gz --report refused.json")]
    Import(Import),
    /// Make sample patients with Synthea.
    #[command(
        after_help = "Example:\n  ./nexus sample --patients 100 --seed 7 --out patients && ./nexus import patients"
    )]
    Sample(Sample),
    /// See and replace the keys that everything is sealed with.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// See what read models could not apply, and their versions; retry, rebuild, switch.
    #[command(subcommand)]
    Projections(Projections),
    /// See and renew the certificates of the stack.
    #[command(subcommand)]
    Certificates(Certificates),
    /// Run every check and test, with a Kafka and a PostgreSQL of its own.
    #[command(after_help = "Example:\n  ./nexus test --filter position")]
    Test(Test),
    /// Break a whole installation on purpose, then check that it lost, repeated and disordered nothing.
    #[command(after_help = "Example:\n  ./nexus chaos --seed 7 --minutes 5 --report chaos-7")]
    Chaos(chaos::Options),
    /// The background process that keeps the services running.
    #[command(hide = true)]
    Supervise(Supervise),
}

#[derive(Args)]
pub struct Up {
    /// Stop this stack and delete everything it stored before starting it.
    #[arg(long)]
    pub fresh: bool,
    /// Don't load the sample patients.
    #[arg(long)]
    pub no_sample: bool,
    /// Who signs tokens; the stack keeps it until told otherwise.
    #[arg(long, value_enum, value_name = "NAME")]
    pub idp: Option<IdentityProvider>,
}

#[derive(Args)]
pub struct Status {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Token {
    /// Whose: there is a demo account for each role.
    #[arg(value_parser = PossibleValuesParser::new(stack::roles()))]
    pub role: String,
}

#[derive(Args)]
pub struct Logs {
    /// Whose; those of all of them when not given.
    #[arg(value_parser = PossibleValuesParser::new(stack::log_names()))]
    pub service: Option<String>,
    /// Go on printing what is written from now on.
    #[arg(short, long)]
    pub follow: bool,
}

#[derive(Args)]
pub struct Import {
    /// Files and folders: bundles (.json) or resources (.ndjson), also compressed (.gz).
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How many files to send at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64), value_name = "N")]
    pub jobs: u16,
    /// The write door; the local stack's when not given.
    #[arg(long)]
    pub url: Option<String>,
    /// A file with the bearer token; the local stack's service account when not given. Read again when it expires.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write the result, with every refused resource and why, to a file.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

#[derive(Args)]
pub struct Sample {
    /// How many living patients.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub patients: u32,
    /// The same seed makes the same patients.
    #[arg(long, default_value_t = 42, value_name = "S")]
    pub seed: u64,
    /// Where the bundles go.
    #[arg(long, default_value = "patients", value_name = "DIR")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct Test {
    /// Only tests whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Switch one safeguard off at a time, and require that a test notices each; nothing else is run.
    #[arg(long, conflicts_with = "filter")]
    pub mutations: bool,
}

#[derive(Args)]
pub struct Supervise {
    /// Stop everything when this process is gone: a test that was interrupted leaves nothing running.
    #[arg(long, env = "NEXUS_DIES_WITH", value_name = "PID")]
    pub dies_with: Option<i32>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
