//! One Keycloak in a folder of its own, on a database of its own, reachable on 127.0.0.1 only.

use std::fs::{OpenOptions, Permissions, set_permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{Launch, Lifetime, Process, TlsFiles, wait_until};

/// The realm of `infra/keycloak/realm.json`.
pub const REALM: &str = "nexushealth";
/// The first start makes some hundred tables.
pub const START_DEADLINE: Duration = Duration::from_secs(300);
const PROBE_SECONDS: &str = "2";

/// A server that has its programs, and can be launched.
#[derive(Clone)]
pub struct Keycloak {
    pub folder: PathBuf,
    pub port: u16,
    /// The folder with the distribution, from [`crate::jars::fetch`].
    pub distribution: PathBuf,
    /// What it shows to whoever comes, and whose certificate PostgreSQL has to show.
    pub tls: TlsFiles,
    /// Where its tables are: port, role (also the name of the database) and password of a PostgreSQL on this machine.
    pub database: (u16, String, String),
    /// The password of the first administrator, `admin`.
    pub admin_password: String,
    /// What the realm is made from when it does not exist yet: JSON.
    pub realm: String,
    pub log: PathBuf,
}

impl Keycloak {
    /// The `iss` of its tokens.
    pub fn issuer(&self) -> String {
        format!("https://127.0.0.1:{}/realms/{REALM}", self.port)
    }

    /// Whether it answers, and has the realm.
    pub fn is_ready(&self) -> bool {
        let mut probe = Command::new("curl");
        probe.args(["--silent", "--fail", "--noproxy", "*", "--max-time", PROBE_SECONDS, "--cacert"]);
        probe.arg(&self.tls.authority).arg(format!("{}/.well-known/openid-configuration", self.issuer()));
        probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// Unpacks and builds the server (once per version; takes a minute) and writes the realm (each time).
    pub fn prepare(&self) -> Result<()> {
        let home = self.home()?;
        if !home.exists() {
            let draft = self.folder.join("draft");
            std::fs::remove_dir_all(&draft).or_else(ignore_missing)?;
            std::fs::create_dir_all(&draft)?;
            set_permissions(&self.folder, Permissions::from_mode(0o700))?;
            let mut unpack = Command::new("tar");
            unpack.arg("-xzf").arg(self.archive()?).args(["--strip-components", "1", "-C"]).arg(&draft);
            run(unpack).context("can't unpack Keycloak")?;
            std::fs::rename(&draft, &home)?;
        }
        if !home.join("built").exists() {
            let mut build = Command::new(home.join("bin/kc.sh"));
            build.args(["build", "--db=postgres"]).current_dir(&home);
            run(build).context("can't build Keycloak's server")?;
            std::fs::write(home.join("built"), "")?;
        }
        self.write_realm(&home)
    }

    /// How to start the prepared server: what `kc.sh start` does, without the shell in between that would outlive a kill.
    pub fn launch(&self) -> Result<Launch> {
        let home = self.home()?;
        let (database_port, role, password) = &self.database;
        let mut parameters = url::form_urlencoded::Serializer::new("?sslmode=verify-full".to_owned());
        let parameters = parameters.append_pair("sslrootcert", &self.tls.authority.to_string_lossy()).finish();
        let home_setting = format!("-Dkc.home.dir={}", home.display());
        let configuration = format!("-Djboss.server.config.dir={}", home.join("conf").display());
        let classes = home.join("lib/quarkus-run.jar");
        let launch = Launch::new("java", &home, &self.log);
        let launch = JAVA_OPTIONS.iter().fold(launch, Launch::arg).arg(home_setting).arg(configuration);
        let launch = launch.arg("-cp").arg(classes).arg("io.quarkus.bootstrap.runner.QuarkusEntryPoint");
        Ok(launch
            .arg("start")
            .arg("--optimized")
            .arg("--import-realm")
            .env("KC_DB_URL", format!("jdbc:postgresql://127.0.0.1:{database_port}/{role}{parameters}"))
            .env("KC_DB_USERNAME", role)
            .env("KC_DB_PASSWORD", password)
            .env("KC_HTTP_ENABLED", "false")
            .env("KC_HTTP_HOST", "127.0.0.1")
            .env("KC_HTTPS_PORT", self.port.to_string())
            // Both are in the one file, which is read again as it changes.
            .env("KC_HTTPS_CERTIFICATE_FILE", &self.tls.identity)
            .env("KC_HTTPS_CERTIFICATE_KEY_FILE", &self.tls.identity)
            .env("KC_HTTPS_CERTIFICATES_RELOAD_PERIOD", "1m")
            .env("KC_HOSTNAME", format!("https://127.0.0.1:{}", self.port))
            .env("KC_CACHE", "local")
            .env("KC_LOG_LEVEL", "warn")
            .env("KC_BOOTSTRAP_ADMIN_USERNAME", "admin")
            .env("KC_BOOTSTRAP_ADMIN_PASSWORD", &self.admin_password))
    }

    /// Prepares and starts it, and waits until it answers.
    pub fn start(&self, lifetime: Lifetime) -> Result<Process> {
        self.prepare()?;
        let mut process = self.launch()?.start(lifetime)?;
        wait_until("Keycloak becoming ready", START_DEADLINE, || {
            if process.ended().is_some() {
                bail!("Keycloak ended while starting; its log is {}", self.log.display());
            }
            Ok(self.is_ready())
        })?;
        Ok(process)
    }

    /// The version, read from the name of the distribution.
    pub fn version(&self) -> Result<String> {
        let archive = self.archive()?;
        let name = archive.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Ok(name.trim_start_matches("keycloak-quarkus-dist-").trim_end_matches(".tar.gz").to_owned())
    }

    fn home(&self) -> Result<PathBuf> {
        Ok(self.folder.join(self.version()?))
    }

    fn archive(&self) -> Result<PathBuf> {
        let files = std::fs::read_dir(&self.distribution)?.flatten().map(|entry| entry.path());
        let mut archives = files.filter(|path| path.extension().is_some_and(|extension| extension == "gz"));
        archives.next().context("the folder of Keycloak's distribution has no archive in it")
    }

    fn write_realm(&self, home: &Path) -> Result<()> {
        let folder = home.join("data/import");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{REALM}-realm.json"));
        std::fs::remove_file(&path).or_else(ignore_missing)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(file.write_all(self.realm.as_bytes())?)
    }
}

fn run(mut command: Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

const JAVA_OPTIONS: [&str; 15] = [
    "-Xms64m",
    "-Xmx512m",
    "-XX:MaxMetaspaceSize=256m",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dfile.encoding=UTF-8",
    "-Duser.language=en",
    "-Duser.country=US",
    "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
    "-Dpicocli.disable.closures=true",
    "-Djava.util.concurrent.ForkJoinPool.common.threadFactory=\
     io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.security=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--enable-native-access=ALL-UNNAMED",
];
