//! The processes of a stack: their names, places and settings.
//!
//! [`Service::ALL`] is the one list of them. What is started, watched, stopped and disturbed, who has a certificate, a
//! role in PostgreSQL, a log and a port: all of it is asked here. Tests hold it against the programs that the workspace
//! builds and against the table in README.md.

use anyhow::Result;
use nexus_local::{Launch, Ports, Postgres};

use super::{ACCESS_TOPIC, AUDIENCE, IdentityProvider, Secrets, Stack, TOPIC};

/// The account that the reactor asks the issuer for tokens with.
const REACTOR: &str = "reactor";

/// One of the processes that the supervisor keeps running, in the order in which they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    Postgres,
    Kafka,
    Auth,
    /// In place of `Auth`, where the stack was started with it.
    Keycloak,
    CommandApi,
    Relay,
    Projector,
    QueryApi,
    Reactor,
}

impl Service {
    /// Every service that there can be; a stack has those of [`Service::of`].
    pub const ALL: [Self; 9] = [
        Self::Postgres,
        Self::Kafka,
        Self::Auth,
        Self::Keycloak,
        Self::CommandApi,
        Self::Relay,
        Self::Projector,
        Self::QueryApi,
        Self::Reactor,
    ];

    /// The services of a stack, in the order in which they start.
    pub fn of(stack: &Stack) -> Vec<Self> {
        let absent = match stack.identity_provider() {
            IdentityProvider::Auth => Self::Keycloak,
            IdentityProvider::Keycloak => Self::Auth,
        };
        Self::ALL.into_iter().filter(|service| *service != absent).collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            Self::Auth => "auth",
            Self::Keycloak => "keycloak",
            Self::CommandApi => "command-api",
            Self::Relay => "relay",
            Self::Projector => "projector",
            Self::QueryApi => "query-api",
            Self::Reactor => "reactor",
        }
    }

    /// Whether it is one of our own programs.
    pub fn is_own(self) -> bool {
        !matches!(self, Self::Postgres | Self::Kafka | Self::Keycloak)
    }

    /// As whom it logs in to PostgreSQL, if it does.
    pub fn database_role(self) -> Option<&'static str> {
        match self {
            Self::CommandApi => Some("nexus_command"),
            Self::Relay => Some("nexus_relay"),
            Self::Projector => Some("nexus_projector"),
            Self::QueryApi => Some("nexus_query"),
            Self::Reactor => Some("nexus_reactor"),
            Self::Postgres | Self::Kafka | Self::Auth | Self::Keycloak => None,
        }
    }

    /// The others need these two.
    pub fn is_foundation(self) -> bool {
        matches!(self, Self::Postgres | Self::Kafka)
    }

    /// On a machine that has no more to give, whoever answers somebody goes first: read models can be late, and catch up.
    fn niceness(self) -> u8 {
        match self {
            Self::Kafka | Self::Relay | Self::Projector | Self::Reactor => 10,
            Self::Postgres | Self::Keycloak | Self::Auth | Self::CommandApi | Self::QueryApi => 0,
        }
    }

    pub fn port(self, ports: Ports) -> u16 {
        match self {
            Self::Postgres => ports.postgres(),
            Self::Kafka => ports.kafka(),
            Self::Auth | Self::Keycloak => ports.auth(),
            Self::CommandApi => ports.command_api(),
            Self::Relay => ports.relay(),
            Self::Projector => ports.projector(),
            Self::QueryApi => ports.query_api(),
            Self::Reactor => ports.reactor(),
        }
    }

    pub fn url(self, ports: Ports) -> String {
        let scheme = match self {
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            _ => "https",
        };
        format!("{scheme}://127.0.0.1:{}", self.port(ports))
    }
}

/// One process of a service: its name, where it listens, and by which ports it reaches what it leans on.
#[derive(Clone, Debug)]
pub struct Instance {
    pub service: Service,
    /// Names its log and its entry in the state.
    pub name: String,
    pub listen: u16,
    pub postgres: u16,
    pub kafka: u16,
}

impl Instance {
    /// The only process of its service, as a stack has it.
    pub fn only(service: Service, ports: Ports) -> Self {
        let (name, listen) = (service.name().to_owned(), service.port(ports));
        Self { service, name, listen, postgres: ports.postgres(), kafka: ports.kafka() }
    }

    /// How to start it; PostgreSQL, Kafka and Keycloak must have been prepared.
    pub fn launch(&self, stack: &Stack, secrets: &Secrets) -> Result<Launch> {
        let launch = match self.service {
            Service::Postgres => stack.postgres(secrets).launch()?,
            Service::Kafka => stack.kafka()?.launch(),
            Service::Keycloak => stack.keycloak()?.launch()?,
            _ => self.launch_own(stack, secrets)?,
        };
        Ok(Launch { niceness: self.service.niceness(), ..launch })
    }

    /// Secrets travel in the environment and in files: arguments are visible to every account of the machine.
    fn launch_own(&self, stack: &Stack, secrets: &Secrets) -> Result<Launch> {
        let program = stack.home.program(self.service.name())?;
        let tls = stack.tls_files(self.service.name());
        let mut launch = Launch::new(program, &stack.folder, stack.log_file(&self.name))
            .env("NEXUS_LISTEN", format!("127.0.0.1:{}", self.listen))
            .env("NEXUS_LOG_FORMAT", "json")
            .env("NEXUS_TLS_CERT_FILE", &tls.identity)
            .env("NEXUS_TLS_KEY_FILE", &tls.identity)
            .env("NEXUS_CA_FILE", &tls.authority)
            .env("NEXUS_CLIENT_CERT_FILE", &tls.identity)
            .env("NEXUS_CLIENT_KEY_FILE", &tls.identity);
        if matches!(self.service, Service::Relay | Service::Projector | Service::Reactor) {
            // Nobody but the stack's own asks them anything: how they are, and their metrics.
            launch = launch.env("NEXUS_TLS_CLIENT_CA_FILE", &tls.authority);
        }
        for (name, value) in self.settings(stack, secrets) {
            launch = launch.env(name, value);
        }
        Ok(launch)
    }

    fn settings(&self, stack: &Stack, secrets: &Secrets) -> Vec<(&'static str, String)> {
        let tls = stack.tls_files(self.service.name());
        let postgres = Postgres { port: self.postgres, ..stack.postgres(secrets) };
        let role = self.service.database_role().unwrap_or_default();
        let database = |name: &str| {
            let password = secrets.databases.get(role).map(String::as_str);
            postgres.url(role, password, name, Some(&tls))
        };
        let log = || ("NEXUS_LOG_URL", database("nexus_log"));
        let keys = || ("NEXUS_KEYS_URL", database("nexus_keys"));
        let read = || ("NEXUS_READ_URL", database("nexus_read"));
        let file = |variable, name| (variable, stack.secret_file(name).display().to_string());
        let master_key = file("NEXUS_MASTER_KEY_FILE", "master.key");
        let kafka = [
            ("NEXUS_KAFKA", format!("127.0.0.1:{}", self.kafka)),
            ("NEXUS_TOPIC", TOPIC.to_owned()),
            ("NEXUS_ACCESS_TOPIC", ACCESS_TOPIC.to_owned()),
        ];
        let issuer = [("NEXUS_ISSUER", stack.issuer()), ("NEXUS_AUDIENCE", AUDIENCE.to_owned())];

        let mut settings = match self.service {
            Service::Postgres | Service::Kafka | Service::Keycloak => vec![],
            Service::Auth => {
                vec![file("NEXUS_CLIENTS_FILE", "clients.json"), file("NEXUS_SIGNING_KEY_FILE", "signing-key.pem")]
            }
            Service::CommandApi => {
                vec![log(), keys(), master_key, ("NEXUS_FHIR_BASES", fhir_bases(stack.ports))]
            }
            Service::Relay => vec![log()],
            Service::Projector | Service::QueryApi => vec![read(), log(), keys(), master_key],
            Service::Reactor => vec![
                read(),
                ("NEXUS_COMMAND_URL", Service::CommandApi.url(stack.ports)),
                ("NEXUS_ISSUER", stack.issuer()),
                proof_of(REACTOR, stack, secrets),
            ],
        };
        if matches!(self.service, Service::CommandApi | Service::Relay | Service::Projector | Service::QueryApi) {
            settings.extend(kafka);
        }
        if matches!(self.service, Service::Auth | Service::CommandApi | Service::Projector | Service::QueryApi) {
            settings.extend(issuer);
        }
        settings
    }
}

/// Where callers find a stack's FHIR resources: a reference that begins so is to one of its own.
fn fhir_bases(ports: Ports) -> String {
    let doors = [Service::CommandApi, Service::QueryApi].map(|door| door.port(ports));
    let hosts = ["127.0.0.1", "localhost"];
    let bases: Vec<_> = doors.iter().flat_map(|port| hosts.map(|host| format!("https://{host}:{port}/fhir"))).collect();
    bases.join(",")
}

/// How a service proves itself to the issuer: with the account's secret, or with the key whose public half Keycloak knows.
fn proof_of(account: &str, stack: &Stack, secrets: &Secrets) -> (&'static str, String) {
    match stack.identity_provider() {
        IdentityProvider::Auth => ("NEXUS_CLIENT_SECRET", secrets.accounts.get(account).cloned().unwrap_or_default()),
        IdentityProvider::Keycloak => {
            ("NEXUS_CLIENT_ASSERTION_KEY_FILE", stack.secret_file("service-key.pem").display().to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    use serde_json::Value;

    use super::*;

    /// Programs of the workspace that no stack runs.
    const TOOLS: [&str; 2] = ["nexus", "xtask"];

    /// What `cargo build --workspace --bins` makes.
    fn programs() -> BTreeSet<String> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
        let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap().iter();
        let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
        let programs = targets.filter(|target| target["kind"] == serde_json::json!(["bin"]));
        programs.map(|program| program["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_list_has_every_program_of_the_workspace_and_no_other() {
        let listed = Service::ALL.into_iter().filter(|service| service.is_own()).map(Service::name);
        let listed: BTreeSet<String> = listed.chain(TOOLS).map(str::to_owned).collect();
        assert_eq!(listed, programs(), "left is Service::ALL with the tools, right is what the workspace builds");
    }

    #[test]
    fn every_service_has_a_port_of_its_own() {
        let ports = Ports { base: Ports::DEFAULT_BASE };
        let services = Service::ALL.into_iter().filter(|service| *service != Service::Keycloak);
        let mut taken: Vec<u16> = services.map(|service| service.port(ports)).collect();
        taken.push(ports.kafka_controller());
        taken.sort_unstable();
        assert_eq!(taken, ports.all().collect::<Vec<_>>());
    }

    #[test]
    fn the_readme_has_every_service_with_its_port() {
        let readme = include_str!("../../../README.md");
        let (_, table) = readme.split_once("| process | port |").expect("README.md has a table of processes");
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let told: BTreeSet<(String, u16)> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                (cells[1].trim_matches('`').to_lowercase(), cells[2].parse().expect("a port"))
            })
            .collect();
        let ports = Ports { base: Ports::DEFAULT_BASE };
        let services = Service::ALL.into_iter().filter(|service| *service != Service::Keycloak);
        assert_eq!(told, services.map(|service| (service.name().to_owned(), service.port(ports))).collect());
    }
}
