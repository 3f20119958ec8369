//! The process behind the read door: pools, keyring, watcher, routes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::{Extension, Router};
use nexus_access_log::Recorder;
use nexus_auth::Verifier;
use nexus_event_store::{Keyring, database_options};
use nexus_web::pipeline::Pipeline;
use nexus_web::server::{self, Listener, Readiness};
use nexus_web::transport::verifier_config;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio_util::sync::CancellationToken;

use super::feed::{Feeds, Hub, Stopping};
use super::served::ServedVersions;
use super::{QueryApi, QueryConfig, Settings, router};
use crate::all_read_models;
use crate::engine::{Watcher, versions};

/// A request that gets no connection for so long is told that we are overloaded.
const ACQUIRE_MAX: Duration = Duration::from_secs(3);
/// Connections that nobody uses are closed: there is a pool per read model.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// No question takes longer than this.
const STATEMENT_TIMEOUT: &str = "5s";
const KEYS_CONNECTIONS: u32 = 4;
/// One to read checkpoints, two to listen (for them and for other versions), one for lag and versions.
const WATCH_CONNECTIONS: u32 = 4;

/// Routes that know no patient, and are asked all the time by whoever watches the platform.
const UNRECORDED: &[&str] = &["/v1/read-models", "/v1/read-models/feed"];

/// The read door, connected and not yet listening.
pub struct QueryService {
    api: QueryApi,
    verifier: Verifier,
    pipeline: Pipeline,
    watch: PgPool,
    /// Without one only in tests of other things.
    recorder: Option<Recorder>,
}

impl QueryService {
    /// Connects to everything that the configuration names.
    pub async fn connect(config: &QueryConfig) -> anyhow::Result<Self> {
        let master = config.master_key.open()?;
        let keys_url = database_options(&config.keys_url).context("the key database's URL")?;
        let keys = pool(KEYS_CONNECTIONS).connect_with(keys_url.application_name("query-api")).await;
        let keyring = Keyring::connect(keys.context("the key database")?, master).await?;
        let verifier = verifier_config(&config.issuer, &config.audience, &config.kafka.tls)?;
        config.kafka.check()?;
        let verifier = Verifier::connect(verifier).await?.with_dpop(&config.dpop.config(config.listen, &config.tls))?;
        let read = database_options(&config.read_url).context("the read database's URL")?;
        let log = database_options(&config.log_url).context("the log database's URL")?;
        let (kafka, topic) = (config.kafka.clone(), config.access_topic.clone());
        let recorder = Recorder::connect(log, kafka, topic, keyring.clone()).await.context("the access log")?;
        let service = Self::new(&read, config, keyring, verifier).recording(recorder);
        service.api.versions().look(&service.watch).await.context("the versions in the read database")?;
        Ok(service)
    }

    /// Records every access. A service that was connected does.
    pub fn recording(self, recorder: Recorder) -> Self {
        Self { recorder: Some(recorder), ..self }
    }

    /// The same with a keyring and a verifier that exist already.
    pub fn new(read: &PgConnectOptions, config: &QueryConfig, keyring: Keyring, verifier: Verifier) -> Self {
        let settings = Settings { small_cell: config.small_cell };
        let watch = pool(WATCH_CONNECTIONS).connect_lazy_with(reading(read, "projection"));
        let versions = ServedVersions::new(read, config.connections);
        let watcher = Watcher::start(watch.clone());
        let feeds = Feeds::new(config.feeds, Hub::start(versions.clone(), watcher.clone()));
        let api = QueryApi::new(versions, watch.clone(), keyring, watcher, feeds, settings);
        let pipeline = Pipeline::new(verifier.clone());
        let pipeline = pipeline.limiting_callers(&config.rate_limit).open_to_browsers(&config.cors);
        Self { api, verifier, pipeline, watch, recorder: None }
    }

    /// Everything that this door answers.
    pub fn router(&self, shutdown: &CancellationToken) -> Router {
        let (protected, open) = router(self.api.clone());
        let protected = protected.layer(Extension(Stopping(shutdown.clone())));
        let operational = server::operational_routes(self.readiness(shutdown));
        let mut pipeline = self.pipeline.clone();
        if let Some(recorder) = &self.recorder {
            pipeline = pipeline.recording_accesses(Arc::new(recorder.clone()), UNRECORDED);
        }
        pipeline.wrap(protected, open).merge(operational)
    }

    /// Serves until told to stop.
    pub async fn run_until_stopped(
        self,
        listener: impl Into<Listener>,
        shutdown: CancellationToken,
    ) -> std::io::Result<()> {
        let router = self.router(&shutdown);
        let served = server::serve(listener, router, shutdown, server::GRACE_DEFAULT).await;
        if let Some(recorder) = &self.recorder {
            recorder.flush().await;
        }
        served
    }

    fn readiness(&self, shutdown: &CancellationToken) -> Readiness {
        let (watch, active) = (self.watch.clone(), self.watch.clone());
        let verifier = self.verifier.clone();
        let access_log = self.recorder.clone();
        let readiness = match access_log {
            Some(recorder) => Readiness::new().check("access_log", move || {
                let recorder = recorder.clone();
                async move { recorder.ready().await }
            }),
            None => Readiness::new(),
        };
        readiness
            .check("read_database", move || {
                let watch = watch.clone();
                async move { sqlx::query("select 1").execute(&watch).await.is_ok() }
            })
            .check("read_model_versions", move || {
                let active = active.clone();
                async move { serves_what_is_active(&active).await }
            })
            .check("issuer_keys", move || std::future::ready(verifier.ready()))
            .until(shutdown.clone())
    }
}

/// Whether what is served was made by this program's folds. A door that is newer or older would answer from tables that are
/// being filled, or are left behind.
async fn serves_what_is_active(read: &PgPool) -> bool {
    versions::all(read).await.is_ok_and(|known| {
        let is_active = |name: &str, fold| known.iter().any(|it| it.active && it.read_model == name && it.fold == fold);
        all_read_models().iter().all(|model| is_active(model.name(), model.version()))
    })
}

pub(super) fn pool(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_MAX).idle_timeout(IDLE_MAX)
}

/// Connections that see one schema and write nothing, whatever the role may do.
pub(super) fn reading(read: &PgConnectOptions, schema: &str) -> PgConnectOptions {
    read.clone().application_name("query-api").options([
        ("search_path", schema),
        ("default_transaction_read_only", "on"),
        ("statement_timeout", STATEMENT_TIMEOUT),
    ])
}
