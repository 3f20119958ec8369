//! One Kafka broker in KRaft mode, broker and controller in one process, reachable on 127.0.0.1 only.

mod access;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use uuid::Uuid;

use crate::{Launch, Lifetime, Process, TlsFiles, wait_until, write_private};

pub use access::{ADMINISTRATOR, Rule, Things};

const START_DEADLINE: Duration = Duration::from_secs(90);
/// A bundle entry of 213 kB is the largest seen; sealed and with headers it stays far below this.
const MESSAGE_SIZE_MAX: usize = 8 * 1024 * 1024;
/// The default of 50 makes 100 files for a handful of consumer groups.
const OFFSETS_PARTITIONS: u32 = 8;
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// In groups of the protocol `consumer` (KIP-848) the broker says how soon a member is missed that is silent: as soon as in
/// those of the other one, where our consumers say it, and not after its own 45 seconds.
const SESSION_MS: u32 = 6_000;
const HEARTBEAT_MS: u32 = 1_000;
const NODE_ID: i32 = 1;
const HEAP: &str = "-Xmx512m";

/// A broker that has its folder and configuration, and can be launched.
#[derive(Clone, Debug)]
pub struct Kafka {
    pub folder: PathBuf,
    pub port: u16,
    pub controller_port: u16,
    /// The folder with the jars, from [`crate::jars::fetch`].
    pub jars: PathBuf,
    pub log: PathBuf,
    /// With it, everybody has to show a certificate and may do what the rules say; without, everybody everything.
    pub tls: Option<Tls>,
    /// Further listeners, each for clients that come by another port than the one where the broker listens.
    pub detours: Vec<Detour>,
}

/// A listener whose clients are told another port: of something that stands between them and the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detour {
    /// Where the broker listens.
    pub listens: u16,
    /// Where it says that it is.
    pub advertised: u16,
}

/// The certificates of a broker.
#[derive(Clone, Debug)]
pub struct Tls {
    pub broker: TlsFiles,
    /// With which the one process talks to itself, as broker to controller. Kafka reads it at its start only.
    pub controller: TlsFiles,
    /// Of who makes topics and rules.
    pub administrator: TlsFiles,
}

impl Kafka {
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Formats the storage (once) and writes the configuration (each time).
    pub fn prepare(&self) -> Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        std::fs::write(self.folder.join("server.properties"), self.settings())?;
        std::fs::write(self.folder.join("log4j2.xml"), LOGGING)?;
        self.install_certificates()?;
        if !self.folder.join("data/meta.properties").exists() {
            self.format().context("can't format Kafka's storage")?;
        }
        Ok(())
    }

    /// How to start the prepared broker.
    pub fn launch(&self) -> Launch {
        let launch = Launch::new("java", &self.folder, &self.log).arg(HEAP).arg("-Xms256m");
        self.java_arguments().into_iter().fold(launch, Launch::arg).arg("kafka.Kafka").arg("server.properties")
    }

    /// Prepares and starts it, and waits until it answers.
    pub fn start(&self, lifetime: Lifetime) -> Result<Process> {
        self.prepare()?;
        let mut process = self.launch().start(lifetime)?;
        wait_until("Kafka becoming ready", START_DEADLINE, || {
            if process.ended().is_some() {
                bail!("Kafka ended while starting; its log is {}", self.log.display());
            }
            Ok(self.is_ready(Duration::from_millis(500)))
        })?;
        Ok(process)
    }

    /// Whether it answers a metadata request and is a member of its cluster.
    pub fn is_ready(&self, timeout: Duration) -> bool {
        is_ready(&self.bootstrap(), self.tls.as_ref().map(|tls| &tls.administrator), timeout)
    }

    /// Puts the certificates, as they are now, where the broker reads them.
    pub fn install_certificates(&self) -> Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        for (name, content) in [
            ("authority.pem", tls.broker.authority()?),
            ("broker.pem", tls.broker.identity()?),
            ("controller.pem", tls.controller.identity()?),
            ("administrator.pem", tls.administrator.identity()?),
            ("administrator.properties", ADMINISTRATOR_SETTINGS.to_owned()),
        ] {
            write_private(&self.folder.join(name), content.as_bytes())?;
        }
        Ok(())
    }

    /// Has the running broker read its certificate again. Connections that exist go on.
    pub fn reload_certificates(&self) -> Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let admin: AdminClient<DefaultClientContext> =
            client(&self.bootstrap(), Some(&tls.administrator)).create().context("no client of Kafka's")?;
        // Kafka looks at the file when it is named, though the name stays the same (KIP-226).
        let again = AlterConfig::new(ResourceSpecifier::Broker(NODE_ID))
            .set("listener.name.ssl.ssl.keystore.location", "broker.pem")
            .set("listener.name.ssl.ssl.keystore.type", "PEM");
        let options = AdminOptions::new().request_timeout(Some(RELOAD_TIMEOUT));
        let answers = futures::executor::block_on(admin.alter_configs([&again], &options))?;
        for answer in answers {
            answer.map_err(|(_, code)| anyhow!("Kafka does not take its new certificate: {code}"))?;
        }
        Ok(())
    }

    /// The version, read from the name of the server's jar.
    pub fn version(&self) -> Result<String> {
        let names = std::fs::read_dir(&self.jars)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let version = |name: String| Some(name.strip_prefix("kafka-server-")?.strip_suffix(".jar")?.to_owned());
        let mut versions = names.filter_map(version).filter(|text| text.starts_with(|c: char| c.is_ascii_digit()));
        versions.next().context("the folder of Kafka's jars has no server in it")
    }

    fn java_arguments(&self) -> [String; 5] {
        [
            "-cp".to_owned(),
            format!("{}/*", self.jars.display()),
            format!("-Dlog4j2.configurationFile={}", self.folder.join("log4j2.xml").display()),
            "-Djava.awt.headless=true".to_owned(),
            "-XX:+ExitOnOutOfMemoryError".to_owned(),
        ]
    }

    fn format(&self) -> Result<()> {
        let mut command = Command::new("java");
        command.args(self.java_arguments()).arg("kafka.tools.StorageTool").current_dir(&self.folder);
        command.args(["format", "-c", "server.properties", "-t", &cluster_id()]);
        let output = command.stdin(Stdio::null()).output().context("`java` is not installed")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    fn settings(&self) -> String {
        let Self { port, controller_port, folder, .. } = self;
        let data = folder.join("data");
        let (listener, security) = if self.tls.is_some() { ("SSL", TLS_SETTINGS) } else { ("PLAINTEXT", "") };
        let detours = |port: fn(&Detour) -> u16| -> String {
            (1..).zip(&self.detours).map(|(n, it)| format!(",DETOUR{n}://127.0.0.1:{}", port(it))).collect()
        };
        let (further, advertised) = (detours(|it| it.listens), detours(|it| it.advertised));
        let protocols: String = (1..=self.detours.len()).map(|n| format!(",DETOUR{n}:{listener}")).collect();
        format!(
            "process.roles=broker,controller
node.id={NODE_ID}
controller.quorum.voters={NODE_ID}@127.0.0.1:{controller_port}
listeners={listener}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{further}
advertised.listeners={listener}://127.0.0.1:{port}{advertised}
listener.security.protocol.map={listener}:{listener},CONTROLLER:{listener}{protocols}
inter.broker.listener.name={listener}
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes={MESSAGE_SIZE_MAX}
replica.fetch.max.bytes={MESSAGE_SIZE_MAX}
offsets.topic.num.partitions={OFFSETS_PARTITIONS}
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.consumer.min.session.timeout.ms={SESSION_MS}
group.consumer.session.timeout.ms={SESSION_MS}
group.consumer.min.heartbeat.interval.ms={HEARTBEAT_MS}
group.consumer.heartbeat.interval.ms={HEARTBEAT_MS}
{security}",
            data = data.display()
        )
    }
}

fn is_ready(bootstrap: &str, tls: Option<&TlsFiles>, timeout: Duration) -> bool {
    let Ok(consumer) = client(bootstrap, tls).create::<BaseConsumer>() else { return false };
    consumer.fetch_metadata(None, timeout).is_ok_and(|metadata| !metadata.brokers().is_empty())
}

fn client(bootstrap: &str, tls: Option<&TlsFiles>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("log_level", "0");
    if let Some(tls) = tls {
        config
            .set("security.protocol", "ssl")
            .set("ssl.ca.location", tls.authority.to_string_lossy())
            .set("ssl.certificate.location", tls.identity.to_string_lossy())
            .set("ssl.key.location", tls.identity.to_string_lossy());
    }
    config
}

/// Kafka's form of a random id; one that begins with a dash would be read as an option.
fn cluster_id() -> String {
    loop {
        let id = URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes());
        if !id.starts_with('-') {
            return id;
        }
    }
}

/// Who has a certificate of the stack's authority gets in, under the name in it, and may do what the rules allow. The
/// paths are relative to the broker's folder, where it runs.
const TLS_SETTINGS: &str = "ssl.client.auth=required
ssl.enabled.protocols=TLSv1.3
ssl.keystore.type=PEM
ssl.keystore.location=broker.pem
ssl.truststore.type=PEM
ssl.truststore.location=authority.pem
listener.name.controller.ssl.keystore.type=PEM
listener.name.controller.ssl.keystore.location=controller.pem
listener.name.controller.ssl.truststore.type=PEM
listener.name.controller.ssl.truststore.location=authority.pem
ssl.principal.mapping.rules=RULE:^CN=([a-z-]+)$/$1/
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:admin;User:kafka
";

const ADMINISTRATOR_SETTINGS: &str = "security.protocol=SSL
ssl.keystore.type=PEM
ssl.keystore.location=administrator.pem
ssl.truststore.type=PEM
ssl.truststore.location=authority.pem
";

const LOGGING: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="WARN" shutdownHook="disable">
  <Appenders>
    <Console name="out"><PatternLayout pattern="%d{ISO8601}{UTC}Z %p %c{1} %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Root level="WARN"><AppenderRef ref="out"/></Root>
  </Loggers>
</Configuration>
"#;
