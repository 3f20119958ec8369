//! The stack that is disturbed: real processes, several of each kind, with a link before everything they lean on.
//!
//! It lives in a folder of its own and dies with this process. The supervisor's keeper starts again what ends, as it does
//! for every stack.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::join_all;
use nexus_local::kafka::Detour;
use nexus_local::{Launch, Lifetime, Ports, postgres};
use reqwest::Client;

use super::disk::Disks;
use super::link::Link;
use super::schedule::Targets;
use crate::home::{Home, make_folder};
use crate::stack::{self, Instance, Keeper, ProcessId, Secrets, Service, ServiceState, Stack};
use crate::{http, output};

const TICK: Duration = Duration::from_millis(100);
const FOUNDATION_DEADLINE: Duration = Duration::from_secs(120);
const SERVICES_DEADLINE: Duration = Duration::from_secs(120);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The processes of a run, by service.
const COUNTS: [(Service, u16); 6] = [
    (Service::Auth, 1),
    (Service::CommandApi, 3),
    (Service::Relay, 2),
    (Service::Projector, 3),
    (Service::QueryApi, 1),
    (Service::Reactor, 2),
];
/// The ports of this stack, with all its processes and links.
const PORTS: u16 = 64;

/// A running stack with its links.
pub struct Cluster {
    pub stack: Stack,
    pub secrets: Secrets,
    pub links: Vec<Link>,
    pub disks: Option<Disks>,
    pub client: Client,
    instances: Vec<Instance>,
    clocks: Vec<String>,
    states: Arc<Mutex<Vec<ServiceState>>>,
    may_run: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
    keeping: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Starts everything, telling of each step, and waits until it is ready.
    pub async fn start(home: &Home, seed: u64, told: impl Fn(&str)) -> Result<Self> {
        let stack = place(home, seed)?;
        stack.make_folders()?;
        let secrets = Secrets::load_or_generate(&stack)?;
        stack::ensure_certificates(&stack)?;
        stack::fetch_kafka(&stack).await?;
        let mut cluster = Self::plan(stack, secrets).await?;
        cluster.keep()?;
        cluster.foundations_ready().await?;
        told("PostgreSQL and Kafka ready");
        cluster.prepare().await?;
        told("databases, roles, schemas, topics made");
        cluster.may_run.store(true, Ordering::Relaxed);
        cluster.wait_ready(SERVICES_DEADLINE).await?;
        told("services ready");
        Ok(cluster)
    }

    /// Chooses ports and opens the links; starts no process.
    async fn plan(mut stack: Stack, secrets: Secrets) -> Result<Self> {
        let (mut links, mut instances, mut clocks) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = stack.ports.base + Ports::COUNT;
        let mut port = || {
            next += 1;
            next - 1
        };
        for (service, number) in numbered() {
            let name = format!("{}-{number}", service.name());
            let mut instance = Instance { name, ..Instance::only(service, stack.ports) };
            if service != Service::Auth {
                instance.listen = port();
            }
            for end in leans_on(service) {
                let (here, there) = match end {
                    End::Postgres => {
                        instance.postgres = port();
                        (instance.postgres, stack.ports.postgres())
                    }
                    End::Kafka => {
                        instance.kafka = port();
                        let detour = Detour { listens: port(), advertised: instance.kafka };
                        stack.kafka_detours.push(detour);
                        (instance.kafka, detour.listens)
                    }
                    End::CommandApi => (port(), door_of(&instances, number)?),
                };
                links.push(Link::start(&end.link_from(&instance.name), here, there).await?);
            }
            if has_clock(service, number) {
                clocks.push(instance.name.clone());
            }
            if has_door(service) {
                links.push(Link::start(&format!("clients>{}", instance.name), port(), instance.listen).await?);
            }
            instances.push(instance);
        }
        let disks = Disks::mount(&stack);
        Ok(Self {
            client: http::client(Some(&stack))?,
            stack,
            secrets,
            links,
            disks,
            instances,
            clocks,
            states: Arc::default(),
            may_run: Arc::default(),
            stopping: Arc::default(),
            keeping: None,
        })
    }

    /// Starts the thread that keeps the processes running.
    fn keep(&mut self) -> Result<()> {
        make_folder(&self.stack.folder.join("clocks"), 0o711)?;
        stack::prepare_foundations(&self.stack, &self.secrets)?;
        let mut keeper = Keeper::new(Lifetime::Parent);
        for service in [Service::Postgres, Service::Kafka] {
            let instance = Instance::only(service, self.stack.ports);
            keeper.add(&instance, instance.launch(&self.stack, &self.secrets)?);
        }
        for instance in &self.instances {
            keeper.add(instance, self.launch(instance)?);
        }
        let (states, may_run, stopping) = (self.states.clone(), self.may_run.clone(), self.stopping.clone());
        let keeping = move || {
            while !stopping.load(Ordering::Relaxed) {
                if keeper.tick(may_run.load(Ordering::Relaxed)) {
                    *states.lock().unwrap_or_else(PoisonError::into_inner) = keeper.states();
                }
                std::thread::sleep(TICK);
            }
            keeper.stop();
        };
        self.keeping = Some(std::thread::spawn(keeping));
        Ok(())
    }

    fn launch(&self, instance: &Instance) -> Result<Launch> {
        // Whoever asks here is a handful of clients with one account.
        let mut launch = instance.launch(&self.stack, &self.secrets)?.env("NEXUS_REQUESTS_PER_MINUTE", "0");
        if let Some(door) = self.link(&End::CommandApi.link_from(&instance.name)) {
            launch = launch.env("NEXUS_COMMAND_URL", format!("https://127.0.0.1:{}", door.port));
        }
        if let Some(library) = faketime().filter(|_| self.clocks.contains(&instance.name)) {
            self.step_clock(&instance.name, 0)?;
            launch = launch
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", self.clock_file(&instance.name))
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("FAKETIME_CACHE_DURATION", "1");
        }
        Ok(launch)
    }

    fn clock_file(&self, name: &str) -> PathBuf {
        self.stack.folder.join("clocks").join(name)
    }

    /// Moves the clock of a process away from the machine's; it notices within a second.
    pub fn step_clock(&self, name: &str, seconds: i64) -> Result<()> {
        let draft = self.clock_file(name).with_extension("draft");
        std::fs::write(&draft, format!("{seconds:+}s\n"))?;
        std::fs::rename(draft, self.clock_file(name)).context("the clock can't be stepped")
    }

    /// Whether this machine has what steps the clock of a process.
    pub fn can_step_clocks() -> bool {
        faketime().is_some()
    }

    /// The process of this name, while it runs.
    pub fn process(&self, name: &str) -> Option<ProcessId> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.iter().find(|state| state.name == name)?.process
    }

    /// How often each process was started again.
    pub fn restarts(&self) -> Vec<(String, u64)> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.iter().map(|state| (state.name.clone(), state.restarts)).collect()
    }

    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The doors of a service, each through its link.
    pub fn doors(&self, service: Service) -> Vec<String> {
        let before = format!("clients>{}-", service.name());
        let links = self.links.iter().filter(|link| link.name.starts_with(&before));
        links.map(|link| format!("https://127.0.0.1:{}", link.port)).collect()
    }

    /// Who is not ready now.
    pub async fn not_ready(&self) -> Vec<String> {
        let port = self.stack.ports.postgres();
        let mut away = Vec::new();
        if !tokio::task::spawn_blocking(move || postgres::is_ready(port)).await.unwrap_or(false) {
            away.push("postgres".to_owned());
        }
        if !self.kafka_is_ready().await {
            away.push("kafka".to_owned());
        }
        let answers = join_all(self.instances.iter().map(|instance| self.answers_ready(instance))).await;
        let late = self.instances.iter().zip(answers).filter(|(_, ready)| !ready);
        away.extend(late.map(|(instance, _)| instance.name.clone()));
        away
    }

    async fn kafka_is_ready(&self) -> bool {
        let Ok(kafka) = self.stack.kafka() else { return false };
        tokio::task::spawn_blocking(move || kafka.is_ready(PROBE_TIMEOUT)).await.unwrap_or(false)
    }

    async fn answers_ready(&self, instance: &Instance) -> bool {
        let url = format!("https://127.0.0.1:{}/readyz", instance.listen);
        let answer = self.client.get(url).timeout(PROBE_TIMEOUT).send().await;
        self.process(&instance.name).is_some() && answer.is_ok_and(|answer| answer.status().is_success())
    }

    async fn foundations_ready(&self) -> Result<()> {
        let started = Instant::now();
        let port = self.stack.ports.postgres();
        while !(postgres::is_ready(port) && self.kafka_is_ready().await) {
            if started.elapsed() > FOUNDATION_DEADLINE {
                bail!("they do not become ready; see {}", self.stack.folder.join("logs").display());
            }
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }

    async fn prepare(&self) -> Result<()> {
        stack::create_databases(&self.stack, &self.secrets).await?;
        stack::migrate(&self.stack, &self.secrets).await?;
        stack::create_topics(&self.stack).await
    }

    /// Waits until everything is ready; an error names who is not.
    pub async fn wait_ready(&self, deadline: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            let away = self.not_ready().await;
            if away.is_empty() {
                return Ok(());
            }
            if started.elapsed() > deadline {
                bail!("not ready after {}: {}", output::seconds(started.elapsed()), away.join(", "));
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Stops everything, in order.
    pub fn stop(self) {
        tokio::task::block_in_place(|| drop(self));
    }
}

/// However a run ends, its processes end before it, in order.
impl Drop for Cluster {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(keeping) = self.keeping.take() {
            // If it panicked, the processes end with this one.
            keeping.join().ok();
        }
        if let Some(disks) = &self.disks {
            disks.unmount();
        }
    }
}

/// Everything that a run of any seed can disturb.
pub fn targets() -> Targets {
    let mut targets = Targets::default();
    for (service, number) in numbered() {
        let name = format!("{}-{number}", service.name());
        targets.links.extend(leans_on(service).iter().map(|end| end.link_from(&name)));
        if has_door(service) {
            targets.links.push(format!("clients>{name}"));
        }
        if has_clock(service, number) {
            targets.clocks.push(name.clone());
        }
        targets.processes.push(name);
    }
    targets
}

/// What a process reaches by a link of its own.
#[derive(Clone, Copy)]
enum End {
    Postgres,
    Kafka,
    /// The one of the same number.
    CommandApi,
}

impl End {
    /// The name of the link of this process.
    fn link_from(self, process: &str) -> String {
        let name = match self {
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            Self::CommandApi => "command-api",
        };
        format!("{process}>{name}")
    }
}

fn leans_on(service: Service) -> &'static [End] {
    match service {
        Service::CommandApi | Service::Relay | Service::Projector | Service::QueryApi => &[End::Postgres, End::Kafka],
        Service::Reactor => &[End::Postgres, End::CommandApi],
        Service::Auth | Service::Postgres | Service::Kafka | Service::Keycloak => &[],
    }
}

/// Where the command-api of this number listens.
fn door_of(instances: &[Instance], number: u16) -> Result<u16> {
    let name = format!("{}-{number}", Service::CommandApi.name());
    let door = instances.iter().find(|instance| instance.name == name).context("there are more reactors than doors")?;
    Ok(door.listen)
}

/// Whether clients come to it.
fn has_door(service: Service) -> bool {
    matches!(service, Service::CommandApi | Service::QueryApi)
}

/// The last process of each kind runs on a clock of its own.
fn has_clock(service: Service, number: u16) -> bool {
    service != Service::Auth && number == count_of(service)
}

/// The library of Debian's package, in the folder of this machine's architecture.
fn faketime() -> Option<PathBuf> {
    let architectures = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    architectures.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.exists())
}

/// A folder for this run, and a free range of ports.
fn place(home: &Home, seed: u64) -> Result<Stack> {
    let folder = home.state()?.join(format!("chaos-{seed}-{}", std::process::id()));
    let ports = Ports { base: free_range()? };
    Ok(Stack { home: home.clone(), ports, folder, kafka_detours: Vec::new() })
}

/// The base of a row of free ports, below the range from which the system hands out ports.
fn free_range() -> Result<u16> {
    let free = |base: &u16| (0..PORTS).all(|port| std::net::TcpListener::bind(("127.0.0.1", base + port)).is_ok());
    let start = 24_000 + u16::try_from(std::process::id() % 24).unwrap_or_default() * PORTS;
    (start..32_000).step_by(usize::from(PORTS)).find(free).context("there are not enough free ports in a row")
}

fn numbered() -> impl Iterator<Item = (Service, u16)> {
    COUNTS.into_iter().flat_map(|(service, count)| (1..=count).map(move |number| (service, number)))
}

fn count_of(service: Service) -> u16 {
    COUNTS.into_iter().find(|(counted, _)| *counted == service).map_or(0, |(_, count)| count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_of_a_stack_is_disturbed() {
        let counted: Vec<Service> = COUNTS.into_iter().map(|(service, _)| service).collect();
        assert_eq!(counted, Service::ALL.into_iter().filter(|service| service.is_own()).collect::<Vec<_>>());
    }
}
