//! One PostgreSQL server in a folder of its own, reachable on 127.0.0.1 only.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::launch::command_as;
use crate::{Launch, Lifetime, Process, TlsFiles, User, wait_until};

const START_DEADLINE: Duration = Duration::from_secs(60);

/// Whether a committed row survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As production would: `fsync` and `synchronous_commit` on.
    Durable,
    /// For servers that live no longer than a test run.
    Throwaway,
}

/// How clients prove who they are.
#[derive(Clone)]
pub enum Authentication {
    /// Everybody on this machine is believed; for test servers.
    Trust,
    /// SCRAM-SHA-256; this is the password of the superuser `postgres`.
    Password(String),
}

/// A server that has its folder and configuration, and can be launched.
#[derive(Clone)]
pub struct Postgres {
    pub folder: PathBuf,
    pub port: u16,
    pub durability: Durability,
    pub authentication: Authentication,
    pub log: PathBuf,
    /// With it, only clients with a certificate of its authority come in, over TLS.
    pub tls: Option<TlsFiles>,
}

impl Postgres {
    /// Makes the data folder (once) and writes the configuration (each time, so that a new version of it arrives).
    pub fn prepare(&self) -> Result<()> {
        let user = User::for_postgres();
        std::fs::create_dir_all(&self.folder)?;
        own(&self.folder, &user)?;
        if !self.data().join("PG_VERSION").exists() {
            self.initdb(&user).context("initdb failed")?;
        }
        self.write_owned("data/postgresql.conf", &self.settings())?;
        self.install_certificate()?;
        self.write_owned("data/pg_hba.conf", &self.access())
    }

    /// Puts the certificate, as it is now, where the server's account can read it. A server that runs takes it after a
    /// SIGHUP.
    pub fn install_certificate(&self) -> Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        self.write_owned("authority.pem", &tls.authority()?)?;
        self.write_owned("server.pem", &tls.identity()?)
    }

    /// How to start the prepared server.
    pub fn launch(&self) -> Result<Launch> {
        let mut launch =
            Launch::new(bin("postgres")?, &self.folder, &self.log).arg("-D").arg(self.data()).env("TZ", "UTC");
        launch.user = User::for_postgres();
        launch.stop_signal = Signal::SIGINT;
        Ok(launch)
    }

    /// Prepares and starts it, and waits until it answers.
    pub fn start(&self, lifetime: Lifetime) -> Result<Process> {
        self.prepare()?;
        let mut process = self.launch()?.start(lifetime)?;
        wait_until("PostgreSQL becoming ready", START_DEADLINE, || {
            if process.ended().is_some() {
                bail!("PostgreSQL ended while starting; its log is {}", self.log.display());
            }
            Ok(is_ready(self.port))
        })?;
        Ok(process)
    }

    /// The address of a database for `role`, with libpq's parameters; without a password and a certificate where everybody
    /// is believed.
    pub fn url(&self, role: &str, password: Option<&str>, database: &str, client: Option<&TlsFiles>) -> String {
        let password = password.map(|password| format!(":{password}")).unwrap_or_default();
        let parameters = client.map(|client| {
            let (authority, identity) = (client.authority.to_string_lossy(), client.identity.to_string_lossy());
            let mut parameters = url::form_urlencoded::Serializer::new("?sslmode=verify-full".to_owned());
            parameters.append_pair("sslrootcert", &authority);
            parameters.append_pair("sslcert", &identity).append_pair("sslkey", &identity).finish()
        });
        format!("postgres://{role}{password}@127.0.0.1:{}/{database}{}", self.port, parameters.unwrap_or_default())
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Makes a draft and gives it its name when it is complete: what was cut off is never taken for a database.
    fn initdb(&self, user: &User) -> Result<()> {
        let draft = self.folder.join("data.draft");
        std::fs::remove_dir_all(&draft).or_else(ignore_missing)?;
        let mut command = command_as(user, &bin("initdb")?);
        command.arg("-D").arg(&draft).current_dir(&self.folder);
        command.args(["-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--data-checksums"]);
        if self.durability == Durability::Throwaway {
            command.arg("--no-sync");
        }
        let password_file = self.folder.join("initial-password");
        match &self.authentication {
            Authentication::Trust => command.args(["--auth", "trust"]),
            Authentication::Password(password) => {
                self.write_owned("initial-password", password)?;
                command.args(["--auth", "scram-sha-256", "--pwfile"]).arg(&password_file)
            }
        };
        let outcome = run(command);
        std::fs::remove_file(&password_file).or_else(ignore_missing)?;
        outcome?;
        std::fs::rename(&draft, self.data())?;
        Ok(())
    }

    fn settings(&self) -> String {
        let mut settings = vec![
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("port = {}", self.port),
            // Everybody comes over TCP, and the path of a socket must be short, which a checkout's need not be.
            "unix_socket_directories = ''".to_owned(),
            "max_connections = 400".to_owned(),
            "shared_buffers = '256MB'".to_owned(),
            "max_wal_size = '2GB'".to_owned(),
            "checkpoint_timeout = '15min'".to_owned(),
            "wal_compression = off".to_owned(),
            "jit = off".to_owned(),
            "password_encryption = 'scram-sha-256'".to_owned(),
            "timezone = 'UTC'".to_owned(),
            // Statements may carry identifiers of patients: neither they nor their parameters are ever logged.
            "log_min_error_statement = panic".to_owned(),
            "log_parameter_max_length_on_error = 0".to_owned(),
            "log_min_messages = warning".to_owned(),
            "log_error_verbosity = terse".to_owned(),
            "log_checkpoints = off".to_owned(),
            "log_line_prefix = '%m [%p] %d '".to_owned(),
        ];
        if self.tls.is_some() {
            let file = |name: &str| self.folder.join(name).display().to_string().replace('\'', "''");
            settings.extend([
                "ssl = on".to_owned(),
                "ssl_min_protocol_version = 'TLSv1.3'".to_owned(),
                format!("ssl_ca_file = '{}'", file("authority.pem")),
                format!("ssl_cert_file = '{}'", file("server.pem")),
                format!("ssl_key_file = '{}'", file("server.pem")),
            ]);
        }
        settings.extend(match self.durability {
            Durability::Durable => vec!["fsync = on".to_owned(), "synchronous_commit = on".to_owned()],
            Durability::Throwaway => vec!["fsync = off".to_owned(), "full_page_writes = off".to_owned()],
        });
        settings.join("\n") + "\n"
    }

    fn access(&self) -> String {
        let method = match self.authentication {
            Authentication::Trust => "trust",
            Authentication::Password(_) => "scram-sha-256",
        };
        match self.tls {
            // A password, and a certificate of the authority besides. Keycloak's driver wants its key in another form: it
            // comes with the password alone, and into its own database only.
            Some(_) => format!(
                "hostssl nexus_keycloak nexus_keycloak 127.0.0.1/32 {method}\n\
                 hostssl all all 127.0.0.1/32 {method} clientcert=verify-ca\n"
            ),
            None => format!("host all all 127.0.0.1/32 {method}\n"),
        }
    }

    /// Writes a file that only the server's account can read.
    fn write_owned(&self, name: &str, content: &str) -> Result<()> {
        let path = self.folder.join(name);
        let draft = self.folder.join(".draft");
        std::fs::remove_file(&draft).or_else(ignore_missing)?;
        std::fs::write(&draft, "")?;
        set_permissions(&draft, Permissions::from_mode(0o600))?;
        std::fs::write(&draft, content)?;
        own(&draft, &User::for_postgres())?;
        std::fs::rename(&draft, path)?;
        Ok(())
    }
}

/// Whether a server answers on this port.
pub fn is_ready(port: u16) -> bool {
    let Ok(program) = bin("pg_isready") else { return false };
    let mut command = Command::new(program);
    command.args(["-q", "-h", "127.0.0.1", "-t", "2", "-p", &port.to_string()]);
    command.status().is_ok_and(|status| status.success())
}

/// "15.18"-like, of the programs found on this machine.
pub fn version() -> Result<String> {
    let output = Command::new(bin("postgres")?).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().nth(2).unwrap_or("unknown").to_owned())
}

/// Finds a server program: Debian keeps them outside the search path, a folder per major version.
fn bin(name: &str) -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin").join(name))))
        .filter(|(_, program)| program.exists())
        .collect();
    versions.sort();
    let in_path = || std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|p| p.exists());
    let found = versions.pop().map(|(_, program)| program).or_else(in_path);
    found.with_context(|| format!("`{name}` of PostgreSQL is not installed"))
}

fn run(mut command: Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn own(path: &Path, user: &User) -> Result<()> {
    let User::Named(name) = user else { return Ok(()) };
    let account = nix::unistd::User::from_name(name)?;
    let account = account.with_context(|| format!("there is no account `{name}` on this machine"))?;
    nix::unistd::chown(path, Some(account.uid), Some(account.gid))?;
    Ok(())
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
