//! One read model as this process hosts it: the fold, its pool, and what all its partitions share.

use std::sync::Arc;

use nexus_event_store::{Keyring, LogReader};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use tokio::sync::Semaphore;

use super::checkpoint::Name;
use super::config::{
    EngineConfig, IDLE_IN_TRANSACTION_TIMEOUT, Limits, POOL_ACQUIRE_MAX, POOL_PER_READ_MODEL, STATEMENT_TIMEOUT,
};
use super::notify::Notifier;
use crate::read_model::{ReadModel, schema_of};

/// What turns sealed events into rows.
#[derive(Clone)]
pub(crate) struct Fold {
    pub(crate) model: Arc<dyn ReadModel>,
    pub(crate) keyring: Keyring,
}

impl Fold {
    pub(crate) fn name(&self) -> Name<'static> {
        Name { read_model: self.model.name(), version: self.model.version() }
    }
}

pub(crate) struct Host {
    pub(crate) fold: Fold,
    pub(crate) pool: PgPool,
    /// As many as there are connections: who holds one may open a batch and apply it.
    pub(crate) turns: Semaphore,
    pub(crate) log: LogReader,
    pub(crate) limits: Limits,
    pub(crate) owner: String,
    pub(crate) notifier: Notifier,
}

impl Host {
    pub(crate) fn new(config: &EngineConfig, model: Arc<dyn ReadModel>, notifier: Notifier) -> Arc<Self> {
        let pool = pool_of(&config.read_database, model.as_ref());
        Arc::new(Self {
            fold: Fold { model, keyring: config.keyring.clone() },
            pool,
            turns: Semaphore::new(POOL_PER_READ_MODEL as usize),
            log: config.log.clone(),
            limits: config.limits,
            owner: config.owner.clone(),
            notifier,
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.fold.model.name()
    }
}

/// A pool whose connections live in the read model's schema. Nothing is tested before use: a dead connection fails
/// the batch, and the batch is tried again.
pub(crate) fn pool_of(database: &PgConnectOptions, model: &dyn ReadModel) -> PgPool {
    let search_path = format!("{},public", schema_of(model));
    let options = database.clone().application_name(&format!("projector {}", model.name())).options([
        ("search_path", search_path.as_str()),
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
    ]);
    PgPoolOptions::new()
        .max_connections(POOL_PER_READ_MODEL)
        .acquire_timeout(POOL_ACQUIRE_MAX)
        .test_before_acquire(false)
        .connect_lazy_with(options)
}
