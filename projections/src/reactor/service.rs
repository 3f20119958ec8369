//! The process `reactor`: a dispatcher for each reactor, woken by the projectors.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nexus_event_store::database_options;
use nexus_web::server::{self, GRACE_DEFAULT, Listener, Readiness};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::ReactorConfig;
use super::dispatch::Dispatcher;
use super::door::Door;
use crate::engine::PROGRESS_CHANNEL;
use crate::registry::reactors;

/// Dispatchers of each reactor: while one waits for a slow answer, the other goes on.
const DISPATCHERS: usize = 2;
/// One for each dispatcher, one to listen, one for health.
const CONNECTIONS_SPARE: u32 = 2;
const ACQUIRE_MAX: Duration = Duration::from_secs(3);
/// What died while it sent orders keeps them locked no longer than this, should the server not notice.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "20s";
const STATEMENT_TIMEOUT: &str = "10s";
/// How long after a failure the listener is made anew.
const LISTEN_AGAIN: Duration = Duration::from_millis(500);

/// A reactor that is configured and not yet running.
pub struct Reactor {
    pool: PgPool,
    door: Arc<Door>,
}

impl Reactor {
    /// Checks the settings. Neither the database nor the door need to be there yet.
    ///
    /// # Errors
    /// If a setting is wrong or a file can't be read.
    pub fn try_new(config: &ReactorConfig) -> anyhow::Result<Self> {
        let options = database_options(&config.read_url).context("the URL of the read database")?;
        Ok(Self { pool: pool(options), door: Arc::new(Door::try_new(config)?) })
    }

    /// Runs until told to stop: what is being sent is finished.
    pub async fn run_until_stopped(self, listener: impl Into<Listener>, stop: CancellationToken) -> anyhow::Result<()> {
        let routes = server::operational_routes(self.readiness(&stop));
        let serving = tokio::spawn(server::serve(listener.into(), routes, stop.clone(), GRACE_DEFAULT));
        self.dispatch(stop).await;
        serving.await??;
        Ok(())
    }

    /// Carries out orders until told to stop.
    async fn dispatch(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut wakes = Vec::new();
        for reactor in reactors() {
            for _ in 0..DISPATCHERS {
                let wake = Arc::new(Notify::new());
                wakes.push(wake.clone());
                let (pool, door) = (self.pool.clone(), self.door.clone());
                tasks.spawn(Dispatcher { name: reactor.name(), pool, door, wake }.run(stop.clone()));
            }
        }
        tasks.spawn(listen(self.pool.clone(), wakes, stop));
        while let Some(ended) = tasks.join_next().await {
            if ended.is_err() {
                tracing::error!("a task of the reactor did not end in order");
            }
        }
    }

    fn readiness(&self, stop: &CancellationToken) -> Readiness {
        let pool = self.pool.clone();
        let check = move || {
            let pool = pool.clone();
            async move { sqlx::query("select 1").execute(&pool).await.is_ok() }
        };
        Readiness::new().check("read_database", check).until(stop.clone())
    }
}

fn pool(options: PgConnectOptions) -> PgPool {
    let options = options.application_name("reactor").options([
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
    ]);
    let dispatchers = u32::try_from(reactors().len() * DISPATCHERS).unwrap_or(u32::MAX);
    let connections = dispatchers.saturating_add(CONNECTIONS_SPARE);
    PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_MAX).connect_lazy_with(options)
}

/// Wakes the dispatchers whenever a checkpoint has moved.
async fn listen(pool: PgPool, wakes: Vec<Arc<Notify>>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let listening = stop.run_until_cancelled(listen_once(&pool, &wakes)).await;
        if let Some(Err(_)) = listening {
            tracing::warn!("the reactor hears nothing of the projectors; it looks for orders now and then");
            stop.run_until_cancelled(tokio::time::sleep(LISTEN_AGAIN)).await;
        }
    }
}

async fn listen_once(pool: &PgPool, wakes: &[Arc<Notify>]) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(PROGRESS_CHANNEL).await?;
    loop {
        listener.recv().await?;
        wakes.iter().for_each(|wake| wake.notify_one());
    }
}
