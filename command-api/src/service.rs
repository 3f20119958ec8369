//! The running door: built from its settings, served until told to stop. Tests start the same on port 0.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use nexus_access_log::Recorder;
use nexus_auth::Verifier;
use nexus_event_store::{EventLog, Keyring, LogConfig, database_options};
use nexus_web::pipeline::{Limits, Pipeline};
use nexus_web::server::{GRACE_DEFAULT, Listener, Readiness, listen, serve};
use nexus_web::transport::verifier_config;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::app::App;
use crate::claims;
use crate::config::Config;
use crate::fhir::OwnBases;
use crate::forgetting::Forgetting;
use crate::router::router;

/// Keys are cached, so few connections do.
const KEYS_CONNECTIONS: u32 = 4;
/// How long a request waits for a connection before it is refused.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// A bundle of the largest size takes its time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// A door that is bound and ready to serve.
pub struct Service {
    listener: Listener,
    router: Router,
    forgetting: Forgetting,
    /// Who was known to be erased when the door was built.
    erased: HashSet<Uuid>,
    recorder: Recorder,
    shutdown: CancellationToken,
}

impl Service {
    /// Connects to everything and binds the socket.
    ///
    /// # Errors
    /// If a setting is wrong or something that the door can't start without is away.
    pub async fn start(config: &Config, shutdown: CancellationToken) -> anyhow::Result<Self> {
        config.kafka.check()?;
        let issuer = verifier_config(&config.issuer, &config.audience, &config.kafka.tls)?;
        let log = connect_log(config).await?;
        let accesses = database_options(&config.log_url).context("the log's URL")?;
        let (kafka, topic) = (config.kafka.clone(), config.access_topic.clone());
        let recorder =
            Recorder::connect(accesses, kafka, topic, log.keyring().clone()).await.context("the access log")?;
        let verifier = Verifier::connect(issuer).await?;
        let listener = listen(config.listen, &config.tls).await?;
        let dpop = config.dpop.config(listener.local_addr()?, &config.tls);
        let own = OwnBases::new([format!("{}/fhir", dpop.public_url)].into_iter().chain(config.fhir_bases.clone()));
        let verifier = verifier.with_dpop(&dpop)?;
        let readiness = readiness(&log, &verifier).until(shutdown.clone());
        let limits = Limits { request_timeout: REQUEST_TIMEOUT, ..Limits::default() };
        let pipeline = Pipeline::new(verifier)
            .with_limits(limits)
            .limiting_callers(&config.rate_limit)
            .open_to_browsers(&config.cors)
            .recording_exceptions(Arc::new(recorder.clone()));
        let app = App::new(log, own, REQUEST_TIMEOUT);
        let forgetting = app.forgetting.clone();
        // Before the first request: a store from a backup may hold what was erased since.
        let mut erased = HashSet::new();
        forgetting.look(&mut erased).await.context("erasures could not be looked at")?;
        let router = router(app, &pipeline, readiness);
        Ok(Self { listener, router, forgetting, erased, recorder, shutdown })
    }

    /// Where it listens.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until told to stop; accepted requests finish.
    pub async fn run(self) -> anyhow::Result<()> {
        let forgetting = self.forgetting.run(self.erased, self.shutdown.clone());
        let _forgetting = AbortOnDropHandle::new(tokio::spawn(forgetting));
        serve(self.listener, self.router, self.shutdown, GRACE_DEFAULT).await?;
        self.recorder.flush().await;
        Ok(())
    }
}

async fn connect_log(config: &Config) -> anyhow::Result<EventLog> {
    let master = config.master_key.open()?;
    let keys_pool = connect_pool(&config.keys_url, KEYS_CONNECTIONS).await.context("the keys' database")?;
    let keyring = Keyring::connect(keys_pool, master).await?;
    let log_pool = connect_pool(&config.log_url, config.log_connections).await.context("the log's database")?;
    let (kafka, topic) = (config.kafka.clone(), config.topic.clone());
    Ok(EventLog::connect(LogConfig { log_pool, keyring, kafka, topic, partitions: None, claims: claims::RULES })
        .await?)
}

async fn connect_pool(url: &str, connections_max: u32) -> anyhow::Result<PgPool> {
    let pool = PgPoolOptions::new().max_connections(connections_max).acquire_timeout(ACQUIRE_TIMEOUT);
    Ok(pool.connect_with(database_options(url)?).await?)
}

/// Ready once positions may be given out (the log was compared with Kafka) and tokens can be checked.
fn readiness(log: &EventLog, verifier: &Verifier) -> Readiness {
    let (log, verifier) = (log.clone(), verifier.clone());
    Readiness::new()
        .check("log", move || {
            let log = log.clone();
            async move { log.ready().await }
        })
        .check("issuer", move || std::future::ready(verifier.ready()))
}
