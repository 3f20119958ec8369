//! The read models of a process, each with a life of its own.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::config::{EngineConfig, POOL_ACQUIRE_MAX};
use super::host::{Host, Target};
use super::metrics;
use super::notify::Notifier;
use super::session::{Ended, Session};
use super::versions;
use crate::read_model::ReadModel;

/// How often is looked for a database that is away, or for a version to keep level.
const LOOK_FOR_DATABASE: Duration = Duration::from_millis(500);

/// Consumers running in this process. Dropping it kills them as a crash would; [`Engine::stop`] ends them in order.
pub struct Engine {
    consumers: HashMap<&'static str, Consumer>,
    notifier: CancellationToken,
}

struct Consumer {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Engine {
    /// Starts a consumer per read model. Needs neither database nor broker to be there yet.
    pub fn start(config: &EngineConfig, models: Vec<Arc<dyn ReadModel>>) -> Self {
        let notifier = CancellationToken::new();
        let notify = Notifier::start(&config.read_database, notifier.clone());
        let start = |model: Arc<dyn ReadModel>| {
            let stop = CancellationToken::new();
            let (name, task) = (model.name(), consume(config.clone(), model, notify.clone(), stop.clone()));
            (name, Consumer { task: tokio::spawn(task), stop })
        };
        Self { consumers: models.into_iter().map(start).collect(), notifier }
    }

    /// The read models that run here.
    pub fn running(&self) -> Vec<&'static str> {
        let alive = self.consumers.iter().filter(|(_, consumer)| !consumer.task.is_finished());
        alive.map(|(name, _)| *name).collect()
    }

    /// Ends one consumer: its current batches finish and the group is left at once.
    pub async fn stop_one(&mut self, read_model: &str) {
        if let Some(mut consumer) = self.consumers.remove(read_model) {
            consumer.stop.cancel();
            consumer.ended().await;
        }
    }

    /// Ends all consumers in the same way.
    pub async fn stop(mut self) {
        for consumer in self.consumers.values() {
            consumer.stop.cancel();
        }
        for (_, mut consumer) in self.consumers.drain() {
            consumer.ended().await;
        }
    }
}

impl Consumer {
    async fn ended(&mut self) {
        if (&mut self.task).await.is_err() {
            tracing::error!("a consumer's task did not end in order");
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.notifier.cancel();
    }
}

/// Joins the group again and again until told to stop.
async fn consume(config: EngineConfig, model: Arc<dyn ReadModel>, notifier: Notifier, stop: CancellationToken) {
    let mut backoff = Backoff::new(&config.limits);
    while let Some(target) = served(&config, model.as_ref(), &stop).await {
        let host = Host::new(&config, model.clone(), target, notifier.clone());
        let joined = Instant::now();
        let reason = match Session::join(&config, host.clone()) {
            Err(error) => {
                tracing::error!(read_model = host.name(), %error, "no consumer can be made");
                "no consumer"
            }
            Ok(session) => match AssertUnwindSafe(session.run(&stop)).catch_unwind().await {
                Ok(Ended::Stopped) => break,
                Ok(Ended::Renewed) => {
                    tracing::info!(read_model = host.name(), "the next consumer has the new certificate");
                    continue;
                }
                Ok(Ended::Rebuild(reason)) => reason,
                Err(_) => "the session panicked",
            },
        };
        metrics::rebuilt(host.name(), reason);
        tracing::error!(read_model = host.name(), reason, "the consumer is rebuilt");
        if joined.elapsed() > host.limits.backoff_max {
            backoff.reset();
        }
        if !backoff.wait(&stop).await {
            break;
        }
    }
}

/// Waits until a version is served that this program's fold has made: without one, a process has no use for partitions.
/// Nothing when told to stop.
async fn served(config: &EngineConfig, model: &dyn ReadModel, stop: &CancellationToken) -> Option<Arc<Target>> {
    let options = config.read_database.clone().application_name("projector");
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(POOL_ACQUIRE_MAX).connect_lazy_with(options);
    let mut said = None;
    loop {
        let why = match stop.run_until_cancelled(versions::served(&pool, model)).await? {
            Ok(Some(name)) => return Some(Arc::new(Target::served(name, &config.read_database))),
            Ok(None) => "no version of this program's fold is served",
            Err(_) => "the read database is away",
        };
        if said.replace(why) != Some(why) {
            tracing::warn!(read_model = model.name(), fold = model.version(), "waiting: {why}");
        }
        stop.run_until_cancelled(tokio::time::sleep(LOOK_FOR_DATABASE)).await?;
    }
}
