//! One read model as this process hosts it: the fold, the version that it fills, and what all its partitions share.

use std::sync::{Arc, Mutex, PoisonError};

use nexus_event_store::{Keyring, LogReader};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use tokio::sync::Semaphore;

use super::checkpoint::{Name, Purpose};
use super::config::{
    EngineConfig, IDLE_IN_TRANSACTION_TIMEOUT, Limits, POOL_ACQUIRE_MAX, POOL_PER_READ_MODEL, STATEMENT_TIMEOUT,
};
use super::notify::Notifier;
use super::versions;
use crate::read_model::{ReadModel, schema_of};

/// What turns sealed events into rows.
#[derive(Clone)]
pub(crate) struct Fold {
    pub(crate) model: Arc<dyn ReadModel>,
    pub(crate) keyring: Keyring,
}

/// The tables that the rows go to.
pub(crate) struct Target {
    pub(crate) name: Name<'static>,
    pub(crate) purpose: Purpose,
    /// Its connections live in the version's schema.
    pub(crate) pool: PgPool,
}

impl Target {
    pub(crate) fn served(name: Name<'static>, read_database: &PgConnectOptions) -> Self {
        Self { name, purpose: Purpose::Serve, pool: pool_of(read_database, name, POOL_PER_READ_MODEL, []) }
    }
}

pub(crate) struct Host {
    pub(crate) fold: Fold,
    /// Where the partitions write that are taken from now on. It changes when another version of the same fold is served.
    target: Mutex<Arc<Target>>,
    read_database: PgConnectOptions,
    /// As many as there are connections: who holds one may open a batch and apply it.
    pub(crate) turns: Semaphore,
    pub(crate) log: LogReader,
    pub(crate) limits: Limits,
    pub(crate) owner: String,
    pub(crate) notifier: Notifier,
}

impl Host {
    pub(crate) fn new(
        config: &EngineConfig,
        model: Arc<dyn ReadModel>,
        target: Arc<Target>,
        notifier: Notifier,
    ) -> Arc<Self> {
        Arc::new(Self {
            fold: Fold { model, keyring: config.keyring.clone() },
            target: Mutex::new(target),
            read_database: config.read_database.clone(),
            turns: Semaphore::new(POOL_PER_READ_MODEL as usize),
            log: config.log.clone(),
            limits: config.limits,
            owner: config.owner.clone(),
            notifier,
        })
    }

    /// For filling a version beside the one that is served: nobody waits for it to move.
    pub(crate) fn filling(
        fold: Fold,
        target: Arc<Target>,
        read_database: &PgConnectOptions,
        log: LogReader,
        turns: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            fold,
            target: Mutex::new(target),
            read_database: read_database.clone(),
            turns: Semaphore::new(turns),
            log,
            limits: Limits::default(),
            owner: "rebuild".to_owned(),
            notifier: Notifier::silent(),
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.fold.model.name()
    }

    pub(crate) fn target(&self) -> Arc<Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks up which version is served now. Nothing if it is one of another fold: then this program has nothing to write.
    pub(crate) async fn look_again(&self) -> Result<Option<Arc<Target>>, sqlx::Error> {
        let now = self.target();
        let Some(name) = versions::served(&now.pool, self.fold.model.as_ref()).await? else { return Ok(None) };
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        if target.name.version != name.version {
            tracing::info!(read_model = name.read_model, version = name.version, "another version is served");
            *target = Arc::new(Target::served(name, &self.read_database));
        }
        Ok(Some(target.clone()))
    }
}

/// A pool whose connections live in the schema of a version. Nothing is tested before use: a dead connection fails
/// the batch, and the batch is tried again.
pub(crate) fn pool_of<const N: usize>(
    database: &PgConnectOptions,
    name: Name<'_>,
    connections: u32,
    settings: [(&str, &str); N],
) -> PgPool {
    let search_path = format!("{},public", schema_of(name.read_model, name.version));
    let options = database.clone().application_name(&format!("projector {}", name.read_model)).options([
        ("search_path", search_path.as_str()),
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
    ]);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(POOL_ACQUIRE_MAX)
        .test_before_acquire(false)
        .connect_lazy_with(options.options(settings))
}
