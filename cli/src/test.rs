//! `nexus test`: what has to hold before anything is merged, in the order in which it fails fastest.

mod mutations;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nexus_local::{Authentication, Durability, Kafka, Lifetime, Postgres, Process, free_ports, jars};

use crate::args::Test;
use crate::home::Home;
use crate::output;

const SCHEMATHESIS_VERSION: &str = "4.32.5";
const CARGO_DENY_VERSION: &str = "0.20.2";
const STOP_DEADLINE: Duration = Duration::from_secs(20);

pub fn run(home: &Home, options: &Test) -> Result<ExitCode> {
    let started = Instant::now();
    let steps = Steps { home, servers: None, judges: Vec::new() };
    let outcome = steps.run(options);
    let total = output::seconds(started.elapsed());
    Ok(match outcome {
        Ok(()) => {
            output::line(format_args!("\n✓ everything holds ({total})"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::line(format_args!("\n✗ {error:#} ({total})"));
            ExitCode::FAILURE
        }
    })
}

struct Steps<'a> {
    home: &'a Home,
    servers: Option<Servers>,
    /// Programs of others that tests ask, by the variable that says where they are.
    judges: Vec<(&'static str, PathBuf)>,
}

impl Steps<'_> {
    fn run(mut self, options: &Test) -> Result<()> {
        if options.mutations {
            self.start_servers()?;
            let found = mutations::check(&self);
            self.stop_servers()?;
            return found;
        }
        if options.filter.is_none() {
            self.cargo("format", &["fmt", "--all", "--check"])?;
            self.cargo(
                "lints",
                &["clippy", "--locked", "--profile", "suite", "--workspace", "--all-targets", "--", "-D", "warnings"],
            )?;
            self.cargo("tidy", &["xtask", "tidy"])?;
            self.deny()?;
            self.cargo("bill of materials", &["xtask", "sbom"])?;
        }
        self.cargo("programs", &["build", "--locked", "--profile", "suite", "--workspace", "--bins"])?;
        self.start_servers()?;
        let schemathesis = schemathesis(&self.home.cache()?)?;
        self.judges.push(("NEXUS_TEST_SCHEMATHESIS", schemathesis));
        let filter = options.filter.as_deref();
        let arguments =
            ["test", "--locked", "--profile", "suite", "--workspace", "--no-fail-fast"].into_iter().chain(filter);
        let tests = self.cargo("tests", &arguments.collect::<Vec<_>>());
        let found = tests.and_then(|()| if filter.is_none() { mutations::check(&self) } else { Ok(()) });
        self.stop_servers()?;
        found
    }

    fn cargo(&self, name: &str, arguments: &[&str]) -> Result<()> {
        step(name, || {
            let status = self.command(arguments).status().context("`cargo` is not installed")?;
            anyhow::ensure!(status.success(), "cargo {} failed", arguments[0]);
            Ok(())
        })
    }

    /// Cargo with these arguments, told where the servers and the judges are.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("cargo");
        command.args(arguments).current_dir(self.home.path(""));
        if let Some(servers) = &self.servers {
            command.env("NEXUS_TEST_POSTGRES", &servers.postgres_url).env("NEXUS_TEST_KAFKA", &servers.kafka_address);
        }
        command.envs(self.judges.iter().map(|(name, program)| (name, program)));
        command
    }

    /// Licences, sources and bans; and known vulnerabilities, where their database is at hand (see SECURITY.md).
    fn deny(&self) -> Result<()> {
        step("dependencies", || {
            let program = installed(&self.home.cache()?, "cargo-deny", CARGO_DENY_VERSION)?;
            let check = |options: &[&str], what: &[&str]| {
                let mut command = Command::new(&program);
                command.current_dir(self.home.path("")).args(["--log-level", "warn"]).args(options);
                let status = command.args(["check", "--hide-inclusion-graph"]).args(what).status()?;
                anyhow::ensure!(status.success(), "cargo deny failed");
                Ok(())
            };
            check(&[], &["licenses", "bans", "sources"])?;
            if advisories_at_hand() {
                return check(&["--offline"], &["advisories"]);
            }
            output::line("known vulnerabilities are NOT checked: there is no copy of the RustSec database here");
            Ok(())
        })
    }

    fn start_servers(&mut self) -> Result<()> {
        step("PostgreSQL and Kafka", || {
            self.servers = Some(Servers::start(self.home)?);
            Ok(())
        })
    }

    fn stop_servers(&mut self) -> Result<()> {
        self.servers.take().map_or(Ok(()), Servers::stop)
    }
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    output::line(format_args!("\n── {name}"));
    let started = Instant::now();
    work()?;
    output::line(format_args!("── {name}: {}", output::seconds(started.elapsed())));
    Ok(())
}

/// The servers of one test run, on ports that nobody else uses; they die with this process.
struct Servers {
    postgres: Process,
    kafka: Process,
    postgres_url: String,
    kafka_address: String,
    /// Deleted when dropped.
    _folder: tempfile::TempDir,
}

impl Servers {
    fn start(home: &Home) -> Result<Self> {
        let jars = jars::fetch(&home.path("infra/kafka/pom.xml"), &home.cache()?, "kafka")?;
        // The account of PostgreSQL has to get in; what lies inside is closed by its own permissions.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        let folder = tempfile::Builder::new().prefix("nexus-test-").permissions(open).tempdir()?;
        let ports = free_ports(3)?;
        let postgres = Postgres {
            folder: folder.path().join("postgres"),
            port: ports[0],
            durability: Durability::Throwaway,
            authentication: Authentication::Trust,
            log: folder.path().join("postgres.log"),
            tls: None,
        };
        let kafka = Kafka {
            folder: folder.path().join("kafka"),
            port: ports[1],
            controller_port: ports[2],
            jars,
            log: folder.path().join("kafka.log"),
            tls: None,
            detours: Vec::new(),
        };
        let postgres_url = postgres.url("postgres", None, "postgres", None);
        let kafka_address = kafka.bootstrap();
        let (postgres, kafka) = std::thread::scope(|scope| {
            let kafka = scope.spawn(|| kafka.start(Lifetime::Parent));
            let postgres = postgres.start(Lifetime::Parent)?;
            let kafka = kafka.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            anyhow::Ok((postgres, kafka))
        })?;
        Ok(Self { postgres, kafka, postgres_url, kafka_address, _folder: folder })
    }

    fn stop(mut self) -> Result<()> {
        // Its files go with the folder: there is nothing to be careful about.
        self.kafka.kill()?;
        self.postgres.stop(STOP_DEADLINE)?;
        Ok(())
    }
}

/// A pinned program of cargo's, built once per checkout.
pub fn installed(cache: &Path, name: &str, version: &str) -> Result<PathBuf> {
    let root = cache.join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if !program.exists() {
        output::line(format_args!("building {name}, once for this checkout"));
        let mut command = Command::new("cargo");
        command.args(["install", name, "--quiet", "--locked", "--version", version]);
        command.arg("--root").arg(&root).arg("--target-dir").arg(root.join("build"));
        let status = command.status()?;
        anyhow::ensure!(status.success(), "cargo install {name} failed");
        std::fs::remove_dir_all(root.join("build")).ok();
    }
    Ok(program)
}

/// The pinned schemathesis, in a Python environment of its own, made once per checkout.
fn schemathesis(cache: &Path) -> Result<PathBuf> {
    let root = cache.join(format!("schemathesis-{SCHEMATHESIS_VERSION}"));
    let program = root.join("bin/schemathesis");
    if !program.exists() {
        output::line("installing schemathesis, once for this checkout");
        let python = |arguments: &[&str]| Command::new("python3").args(arguments).arg(&root).status();
        let made = python(&["-m", "venv", "--clear"]).context("`python3` is not installed")?;
        anyhow::ensure!(made.success(), "python3 -m venv failed");
        let wanted = format!("schemathesis=={SCHEMATHESIS_VERSION}");
        let mut command = Command::new(root.join("bin/pip"));
        command.args(["install", "--quiet", "--disable-pip-version-check", &wanted]);
        anyhow::ensure!(command.status()?.success(), "pip install schemathesis failed");
    }
    Ok(program)
}

/// Whether cargo-deny has fetched its database before, on a machine that could.
fn advisories_at_hand() -> bool {
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    cargo.is_some_and(|cargo| cargo.join("advisory-dbs").is_dir())
}
