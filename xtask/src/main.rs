//! The project's own checks and generators, as a program: `cargo xtask tidy`, `cargo xtask sbom`,
//! `cargo xtask modifiers`.
#![expect(clippy::print_stdout, reason = "a command line program answers on standard output")]

mod modifiers;
mod sbom;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about, after_help = "Examples:\n  cargo xtask tidy\n  cargo xtask sbom")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the rules of STYLE.md that neither the compiler nor clippy knows.
    Tidy,
    /// Write what the programs are made of, in CycloneDX's form, to target/sbom.cdx.json.
    Sbom,
    /// Write the list of FHIR R4's modifier elements anew.
    Modifiers {
        /// A folder with profiles-resources.json and profiles-types.json.
        definitions: PathBuf,
    },
}

fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Tidy => tidy(),
        Command::Modifiers { definitions } => {
            let (file, elements) = modifiers::write(&root()?, &definitions)?;
            println!("{}: {elements} elements", file.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Sbom => {
            let (file, components) = sbom::write(&root()?)?;
            println!("{}: {components} components", file.display());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn tidy() -> Result<ExitCode> {
    let findings = tidy::check(&root()?)?;
    for finding in &findings {
        println!("{finding}");
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("this crate lies in a folder of the workspace")?.to_owned())
}
