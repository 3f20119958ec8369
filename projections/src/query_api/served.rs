//! Which version of each read model answers, and turning to another one while requests are under way.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::service::{pool, reading};
use crate::engine::checkpoint::Name;
use crate::engine::notify::Ear;
use crate::engine::versions::{self, Version};
use crate::{all_read_models, schema_of};

/// How often is looked, should a notification get lost.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The versions that this door serves. A request keeps the connections that it has begun with: what they see stays where
/// it is, whatever is served by then.
pub(crate) struct ServedVersions {
    read: PgConnectOptions,
    connections: u32,
    now: RwLock<HashMap<&'static str, Served>>,
    changed: watch::Sender<()>,
}

#[derive(Clone)]
struct Served {
    version: i32,
    /// With its schema as search path.
    pool: PgPool,
}

impl ServedVersions {
    /// The first version of each read model's fold, until the database has told which one it is.
    pub(super) fn new(read: &PgConnectOptions, connections: u32) -> Arc<Self> {
        let served = Self { read: read.clone(), connections, now: RwLock::default(), changed: watch::Sender::new(()) };
        for model in all_read_models() {
            served.serve(Name { read_model: model.name(), version: model.version() });
        }
        Arc::new(served)
    }

    /// Follows what the database says, until the task is dropped.
    pub(super) fn follow(self: &Arc<Self>, watch: PgPool) -> AbortOnDropHandle<()> {
        let served = Arc::downgrade(self);
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut ear = Ear::new(versions::CHANNEL);
            while let Some(served) = served.upgrade() {
                if served.look(&watch).await.is_err() {
                    tracing::debug!("the versions of the read models can't be read");
                }
                drop(served);
                ear.wait(&watch, LOOK_AGAIN).await;
            }
        }))
    }

    /// Turns to what is served by now.
    pub(super) async fn look(&self, watch: &PgPool) -> Result<(), sqlx::Error> {
        let known = versions::all(watch).await?;
        for model in all_read_models() {
            let own = |it: &&Version| it.read_model == model.name() && it.fold == model.version();
            // Where another fold is served, this door is not ready; it then stays with what it can read.
            let active = known.iter().filter(own).find(|it| it.active);
            if let Some(Version { version, .. }) = active.or_else(|| known.iter().rfind(own)) {
                self.serve(Name { read_model: model.name(), version: *version });
            }
        }
        Ok(())
    }

    fn serve(&self, name: Name<'static>) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        if now.get(name.read_model).is_some_and(|served| served.version == name.version) {
            return;
        }
        let options = reading(&self.read, &schema_of(name.read_model, name.version));
        let served = Served { version: name.version, pool: pool(self.connections).connect_lazy_with(options) };
        now.insert(name.read_model, served);
        drop(now);
        self.changed.send_replace(());
    }

    fn of(&self, read_model: &str) -> Served {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        now.get(read_model).expect("every read model of the registry is served").clone()
    }

    pub(super) fn pool(&self, read_model: &'static str) -> PgPool {
        self.of(read_model).pool
    }

    pub(super) fn name(&self, read_model: &'static str) -> Name<'static> {
        Name { read_model, version: self.of(read_model).version }
    }

    /// Completes when anything changes after this call.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
