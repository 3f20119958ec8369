//! One installation on this machine: its processes, a range of ports, a folder.

mod certificates;
mod database;
mod down;
mod identity;
mod logs;
mod secrets;
mod service;
mod state;
mod status;
mod supervisor;
mod tour;
mod up;

use std::path::PathBuf;

use anyhow::{Result, bail};
use nexus_event_store::kafka::{ClientTlsArgs, KafkaArgs};
use nexus_local::kafka::{self, Detour};
use nexus_local::{Authentication, Durability, Kafka, Ports, Postgres, TlsFiles, jars};

use crate::home::{Home, make_folder};

pub use certificates::ensure as ensure_certificates;
pub use certificates::{Certificates, run as certificates};
pub use database::{
    connect, connect_as, connect_as_owner, create as create_databases, create_topics, migrate, rebuild_sources,
};
pub use down::down;
pub use identity::{IdentityProvider, assertion};
pub use logs::{log_names, logs};
pub use secrets::{Secrets, roles};
pub use service::{Instance, Service};
pub use state::{ProcessId, ServiceState};
pub use status::status;
pub use supervisor::{Keeper, prepare_foundations, supervise};
pub use tour::read_models_behind;
pub use up::{fetch_kafka, up};

pub const TOPIC: &str = "nexus.events.v1";
pub const ACCESS_TOPIC: &str = "nexus.access.v1";
pub const AUDIENCE: &str = "nexushealth";

/// Where a stack lives; nothing of it need run.
#[derive(Clone, Debug)]
pub struct Stack {
    pub home: Home,
    pub ports: Ports,
    /// `.nexus/stack-7400`: everything this stack stores.
    pub folder: PathBuf,
    /// Ports besides Kafka's own by which some clients reach it.
    pub kafka_detours: Vec<Detour>,
}

impl Stack {
    pub fn open(home: &Home, port_base: u16) -> Result<Self> {
        if !(1024..=Ports::BASE_MAX).contains(&port_base) {
            bail!("--port-base must lie between 1024 and {}: a stack has {} ports", Ports::BASE_MAX, Ports::COUNT);
        }
        let folder = home.state()?.join(format!("stack-{port_base}"));
        Ok(Self { home: home.clone(), ports: Ports { base: port_base }, folder, kafka_detours: Vec::new() })
    }

    pub fn make_folders(&self) -> Result<()> {
        make_folder(&self.folder, 0o711)?;
        make_folder(&self.folder.join("secrets"), 0o700)?;
        make_folder(&self.folder.join("logs"), 0o700)
    }

    pub fn secret_file(&self, name: &str) -> PathBuf {
        self.folder.join("secrets").join(name)
    }

    pub fn log_file(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    /// Present once databases, roles, schemas and the topic exist: the services may start.
    pub fn prepared_marker(&self) -> PathBuf {
        self.folder.join("prepared")
    }

    /// Present once the sample patients are in.
    pub fn sample_marker(&self) -> PathBuf {
        self.folder.join("sample-loaded")
    }

    pub fn postgres(&self, secrets: &Secrets) -> Postgres {
        Postgres {
            folder: self.folder.join("postgres"),
            port: self.ports.postgres(),
            durability: Durability::Durable,
            authentication: Authentication::Password(secrets.databases["postgres"].clone()),
            log: self.log_file("postgres"),
            tls: Some(self.tls_files("postgres")),
        }
    }

    /// How the commands of this program reach Kafka.
    pub fn kafka_args(&self) -> KafkaArgs {
        let TlsFiles { authority, identity } = self.tls_files(kafka::ADMINISTRATOR);
        KafkaArgs {
            servers: format!("127.0.0.1:{}", self.ports.kafka()),
            tls: ClientTlsArgs {
                ca_file: Some(authority),
                client_cert_file: Some(identity.clone()),
                client_key_file: Some(identity),
            },
        }
    }

    pub fn kafka(&self) -> Result<Kafka> {
        Ok(Kafka {
            folder: self.folder.join("kafka"),
            port: self.ports.kafka(),
            controller_port: self.ports.kafka_controller(),
            jars: jars::folder(&self.home.path("infra/kafka/pom.xml"), &self.home.cache()?, "kafka")?,
            log: self.log_file("kafka"),
            tls: Some(self.kafka_tls()),
            detours: self.kafka_detours.clone(),
        })
    }
}
