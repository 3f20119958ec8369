//! The projector as a service: settings, keys, consumers, health.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use futures::future::join_all;
use nexus_auth::Verifier;
use nexus_event_store::kafka::KafkaArgs;
use nexus_event_store::{
    ACCESS_SCHEMA, DatabaseUrlError, Keyring, LogReader, MasterKeyArgs, database_options, in_schema,
};
use nexus_web::authenticate::DpopArgs;
use nexus_web::pipeline::Pipeline;
use nexus_web::server::{self, GRACE_DEFAULT, Listener, Readiness};
use nexus_web::telemetry::TelemetryArgs;
use nexus_web::tls::TlsArgs;
use nexus_web::transport::verifier_config;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::backoff::Backoff;
use super::config::{EngineConfig, GroupProtocol, Limits};
use super::parked::{self, ParkedRoutes};
use super::supervisor::Engine;
use crate::read_model::{Log, ReadModel};

/// Connections to each of the databases that are only read now and then.
const SIDE_POOL: u32 = 2;
/// What waits for a connection longer is tried again, so that a signal is heard in between.
const SIDE_ACQUIRE_MAX: Duration = Duration::from_secs(3);

/// Keeps read models level with the log.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "projector", version)]
pub struct ProjectorConfig {
    /// Where health and metrics are served.
    #[arg(long, env = "NEXUS_LISTEN")]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// The read database.
    #[arg(long, env = "NEXUS_READ_URL", hide_env_values = true)]
    pub read_url: String,
    /// The log database, from which gaps are filled.
    #[arg(long, env = "NEXUS_LOG_URL", hide_env_values = true)]
    pub log_url: String,
    /// The key database.
    #[arg(long, env = "NEXUS_KEYS_URL", hide_env_values = true)]
    pub keys_url: String,
    #[command(flatten)]
    pub master_key: MasterKeyArgs,
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// The topic that events are read from.
    #[arg(long, env = "NEXUS_TOPIC", default_value = "nexus.events.v1")]
    pub topic: String,
    /// The topic that accesses are read from.
    #[arg(long, env = "NEXUS_ACCESS_TOPIC", default_value = "nexus.access.v1")]
    pub access_topic: String,
    /// The read models to keep; all if none is named.
    #[arg(long = "read-model", env = "NEXUS_READ_MODELS", value_delimiter = ',', num_args = 1..)]
    pub read_models: Vec<String>,
    /// Goes before the names of the consumer groups.
    #[arg(long, env = "NEXUS_GROUP_PREFIX", default_value = "")]
    pub group_prefix: String,
    /// How consumers agree on who reads which partition.
    #[arg(long, env = "NEXUS_GROUP_PROTOCOL", value_enum, default_value = "classic")]
    pub group_protocol: GroupProtocol,
    /// The issuer whose tokens let operators retry and discard parked events over HTTP; without one, nobody can.
    #[arg(long, env = "NEXUS_ISSUER")]
    pub issuer: Option<String>,
    /// The audience that tokens must be made for.
    #[arg(long, env = "NEXUS_AUDIENCE", default_value = "nexushealth")]
    pub audience: String,
    #[command(flatten)]
    pub dpop: DpopArgs,
    /// The name of this process in its groups, of which there must be no second: restarted under it within the session
    /// timeout (6 s), it gets its partitions back and moves nobody's. Without one, it leaves when it stops, and the others
    /// take over at once.
    #[arg(long, env = "NEXUS_GROUP_INSTANCE", value_parser = group_instance)]
    pub group_instance: Option<String>,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// A projector that is configured and not yet running.
pub struct Projector {
    config: ProjectorConfig,
    models: Vec<Arc<dyn ReadModel>>,
    keys: PgPool,
    log: PgPool,
    read: PgConnectOptions,
}

impl Projector {
    /// Checks the settings. Neither databases nor broker need to be there yet.
    pub fn try_new(config: ProjectorConfig) -> anyhow::Result<Self> {
        let models = chosen(&config.read_models, crate::registry::all_read_models())?;
        config.kafka.check()?;
        // Opened again when it is used; a file that can't be read should be said at once.
        drop(config.master_key.open()?);
        let keys = side_pool(&config.keys_url).context("the URL of the key database")?;
        let log = side_pool(&config.log_url).context("the URL of the log database")?;
        let read = database_options(&config.read_url).context("the URL of the read database")?;
        Ok(Self { config, models, keys, log, read })
    }

    /// Runs until told to stop: current batches finish and the groups are left at once.
    pub async fn run_until_stopped(self, listener: impl Into<Listener>, stop: CancellationToken) -> anyhow::Result<()> {
        let running = Arc::new(AtomicBool::new(false));
        let opened = Arc::default();
        let operational = server::operational_routes(self.readiness(&running, &stop));
        let routes = self.operator_routes(&opened).await?.merge(operational);
        let serving = tokio::spawn(server::serve(listener.into(), routes, stop.clone(), GRACE_DEFAULT));
        if let Some(keyring) = self.keyring(&stop).await {
            opened.get_or_init(|| keyring.clone());
            let access_config = self.access_config(keyring.clone());
            let events_config = self.engine_config(keyring);
            let (events, accesses) = self.models.into_iter().partition(|model| model.log() == Log::Events);
            let engines = [Engine::start(&events_config, events), Engine::start(&access_config, accesses)];
            running.store(true, Ordering::Relaxed);
            stop.cancelled().await;
            join_all(engines.map(Engine::stop)).await;
        }
        serving.await??;
        Ok(())
    }

    /// What operators may do here, if there is an issuer to know them by.
    async fn operator_routes(&self, keyring: &Arc<OnceLock<Keyring>>) -> anyhow::Result<Router> {
        let Some(issuer) = &self.config.issuer else { return Ok(Router::new()) };
        let verifier = verifier_config(issuer, &self.config.audience, &self.config.kafka.tls)?;
        let dpop = self.config.dpop.config(self.config.listen, &self.config.tls);
        let verifier = Verifier::connect(verifier).await?.with_dpop(&dpop)?;
        let routes = parked::routes(ParkedRoutes::new(&self.read, keyring.clone(), &self.models));
        Ok(Pipeline::new(verifier).wrap(routes, Router::new()))
    }

    /// Opens the keyring, as soon as the key store lets it.
    async fn keyring(&self, stop: &CancellationToken) -> Option<Keyring> {
        let mut backoff = Backoff::new(&Limits::default());
        loop {
            match self.open_keyring().await {
                Ok(keyring) => return Some(keyring),
                Err(error) => tracing::warn!(%error, "the key store can't be opened yet"),
            }
            if !backoff.wait(stop).await {
                return None;
            }
        }
    }

    async fn open_keyring(&self) -> Result<Keyring, nexus_event_store::Error> {
        let keyring = Keyring::connect(self.keys.clone(), self.config.master_key.open()?).await?;
        keyring.check_log(&self.log).await?;
        Ok(keyring)
    }

    fn engine_config(&self, keyring: Keyring) -> EngineConfig {
        EngineConfig {
            kafka: self.config.kafka.clone(),
            topic: self.config.topic.clone(),
            group_prefix: self.config.group_prefix.clone(),
            group_protocol: self.config.group_protocol,
            group_instance: self.config.group_instance.clone(),
            read_database: self.read.clone(),
            log: LogReader::new(self.log.clone()),
            keyring,
            owner: Uuid::new_v4().to_string(),
            limits: Limits::default(),
        }
    }

    /// The same for the log of accesses.
    fn access_config(&self, keyring: Keyring) -> EngineConfig {
        let log = in_schema((*self.log.connect_options()).clone(), ACCESS_SCHEMA);
        let log =
            PgPoolOptions::new().max_connections(SIDE_POOL).acquire_timeout(SIDE_ACQUIRE_MAX).connect_lazy_with(log);
        EngineConfig {
            topic: self.config.access_topic.clone(),
            log: LogReader::new(log),
            ..self.engine_config(keyring)
        }
    }

    fn readiness(&self, running: &Arc<AtomicBool>, stop: &CancellationToken) -> Readiness {
        let running = running.clone();
        let read = PgPoolOptions::new().max_connections(1).connect_lazy_with(self.read.clone());
        Readiness::new()
            .check("consumers", move || std::future::ready(running.load(Ordering::Relaxed)))
            .check("read_database", move || {
                let read = read.clone();
                async move { sqlx::query("select 1").execute(&read).await.is_ok() }
            })
            .until(stop.clone())
    }
}

/// A name that Kafka takes: the characters of topics, and at most as many.
fn group_instance(name: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=249).contains(&name.len()) && name.bytes().all(is_plain) && !matches!(name, "." | "..") {
        Ok(name.to_owned())
    } else {
        Err("letters, digits, dots, underscores and dashes are expected, 249 at most")
    }
}

fn side_pool(url: &str) -> Result<PgPool, DatabaseUrlError> {
    let options = database_options(url)?.application_name("projector");
    let pool = PgPoolOptions::new().max_connections(SIDE_POOL).acquire_timeout(SIDE_ACQUIRE_MAX);
    Ok(pool.connect_lazy_with(options))
}

/// The read models of these names; an unknown name is an error, so that a misspelt one is not silently left behind.
fn chosen(names: &[String], all: Vec<Arc<dyn ReadModel>>) -> anyhow::Result<Vec<Arc<dyn ReadModel>>> {
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|model| model.name() == name.as_str())) {
        bail!("there is no read model {unknown:?}");
    }
    Ok(all.into_iter().filter(|model| names.is_empty() || names.iter().any(|name| name == model.name())).collect())
}
