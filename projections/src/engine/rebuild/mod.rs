//! Fills a version of a read model anew beside the one that is served, compares the two, and switches.
//!
//! The same code applies the events that applies them live, only that they come from the event store instead of Kafka; so
//! this is the drill for losing the read database, too. Three steps:
//!
//! 1. [`fill`]: partitions are filled side by side, each with a checkpoint of its own, until little is left. Whoever is
//!    stopped or killed goes on where the checkpoints stand.
//! 2. [`compare`]: both versions at one position, row by row, while the served one moves on.
//! 3. [`switch`]: consumers are held for a moment, the last events are applied, and one transaction says which version is
//!    served and hands the checkpoints over.
//!
//! The old version stays as it is until it is dropped, and can be switched back to by the same steps.

mod command;
mod compare;
mod fill;
mod one_subject;
mod switch;

use std::sync::Arc;

use nexus_event_store::{Keyring, LogReader};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use super::checkpoint::{Name, Purpose};
use super::host::{Fold, Host, Target, pool_of};
use super::migrate;
use super::versions::{self, Version};
use crate::read_model::{ReadModel, schema_of};

pub use command::{Sources, VersionsAction, VersionsCommand, outdated, upgrade};
pub use compare::{Comparison, Difference, TableComparison};
pub use fill::{Pace, Progress};
pub use one_subject::OneSubject;

/// Connections for everything but the filling itself: the lock, the snapshot, what it is compared with, and the switch.
const SIDE_CONNECTIONS: u32 = 4;

/// One that was killed a moment ago still holds the lock until the server notices.
const LOCK_TIMEOUT: &str = "set lock_timeout = '2s'";

/// Why a rebuild ended before its end. What is filled stays, and the next one goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("the read database refused or did not answer")]
    Database(#[from] sqlx::Error),
    #[error("the event store refused or did not answer")]
    Log(#[from] nexus_event_store::Error),
    #[error("the read model {0} has no version that is served; migrate the read database first")]
    NotThere(String),
    #[error("{0} is being rebuilt already")]
    Busy(String),
    #[error("another process has taken over the filling")]
    TakenOver,
    #[error("{0} has no version {1}")]
    NoVersion(String, i32),
    #[error(
        "version {1} of {0} was made by another version of the program (fold {2}): only that one can go on with it"
    )]
    OtherFold(String, i32, i32),
    #[error("version {1} of {0} is served")]
    Served(String, i32),
    #[error("the consumers could not be held for the switch; try again")]
    NotHeld,
    #[error("an event of the subject can't be applied ({0}); nothing was changed")]
    Event(String),
    #[error("stopped; what is filled stays, and the same command goes on with it")]
    Stopped,
}

/// A read model, and what is needed to fill it.
pub struct Rebuild {
    fold: Fold,
    /// As the owner of the read database: versions are schemas.
    database: PgConnectOptions,
    pool: PgPool,
    log: LogReader,
    pace: Pace,
}

/// A rebuild under way. No other of the same read model can begin before it is dropped.
pub struct Running<'a> {
    rebuild: &'a Rebuild,
    host: Arc<Host>,
    target: Arc<Target>,
    served: Name<'static>,
    /// Holds the lock that keeps others out.
    _lock: PgConnection,
}

impl Rebuild {
    pub fn new(
        database: &PgConnectOptions,
        log: LogReader,
        keyring: Keyring,
        model: Arc<dyn ReadModel>,
        pace: Pace,
    ) -> Self {
        let database = database.clone().application_name("projector rebuild");
        // Comparing reads every row: with one processor, and not with all there are.
        let database = database.options([("max_parallel_workers_per_gather", "0")]);
        let pool = PgPoolOptions::new().max_connections(SIDE_CONNECTIONS).connect_lazy_with(database.clone());
        Self { fold: Fold { model, keyring }, database, pool, log, pace }
    }

    /// Goes on with the version that is being filled, or makes a new one.
    pub async fn begin(&self) -> Result<Running<'_>, RebuildError> {
        let mut lock = self.lock().await?;
        let versions = versions::of(&mut lock, self.name()).await?;
        let version = match versions.iter().find(|it| it.served_at.is_none()) {
            Some(unfinished) => self.own(unfinished)?,
            None => self.make().await?,
        };
        self.running(version, &versions, lock)
    }

    /// Goes on with a version that was served before, to switch back to it.
    pub async fn return_to(&self, version: i32) -> Result<Running<'_>, RebuildError> {
        let mut lock = self.lock().await?;
        let versions = versions::of(&mut lock, self.name()).await?;
        let version = self.own(self.find(&versions, version)?)?;
        self.running(version, &versions, lock)
    }

    /// Deletes a version that is not served: one that is kept, or one that is being filled.
    pub async fn drop_version(&self, version: i32) -> Result<(), RebuildError> {
        let mut lock = self.lock().await?;
        let versions = versions::of(&mut lock, self.name()).await?;
        let found = self.find(&versions, version)?;
        if found.active {
            return Err(RebuildError::Served(self.name().to_owned(), version));
        }
        let mut tx = self.pool.begin().await?;
        let schema = schema_of(self.name(), version);
        sqlx::raw_sql(&format!("drop schema if exists {schema} cascade")).execute(&mut *tx).await?;
        for table in ["checkpoints", "parked", "forgotten", "schemas"] {
            sqlx::query(&format!("delete from projection.{table} where read_model = $1 and version = $2"))
                .bind(self.name())
                .bind(version)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    fn name(&self) -> &'static str {
        self.fold.model.name()
    }

    /// A session that others can't have at the same time. The lock ends with it.
    async fn lock(&self) -> Result<PgConnection, RebuildError> {
        let mut session = PgConnection::connect_with(&self.database).await?;
        session.execute(LOCK_TIMEOUT).await?;
        let lock = sqlx::query("select pg_advisory_lock(hashtextextended('nexus rebuild ' || $1, 0))");
        match lock.bind(self.name()).execute(&mut session).await {
            Ok(_) => Ok(session),
            Err(error) if is_lock_timeout(&error) => Err(RebuildError::Busy(self.name().to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    async fn make(&self) -> Result<i32, RebuildError> {
        let mut tx = self.pool.begin().await?;
        let version = migrate::make_version(&mut tx, self.fold.model.as_ref()).await?;
        tx.commit().await?;
        Ok(version)
    }

    fn find<'a>(&self, versions: &'a [Version], version: i32) -> Result<&'a Version, RebuildError> {
        let found = versions.iter().find(|it| it.version == version);
        found.ok_or_else(|| RebuildError::NoVersion(self.name().to_owned(), version))
    }

    /// Its number, if this program can fill it.
    fn own(&self, version: &Version) -> Result<i32, RebuildError> {
        let Version { version, fold, active, .. } = version;
        match *active {
            true => Err(RebuildError::Served(self.name().to_owned(), *version)),
            false if *fold == self.fold.model.version() => Ok(*version),
            false => Err(RebuildError::OtherFold(self.name().to_owned(), *version, *fold)),
        }
    }

    fn running(&self, version: i32, versions: &[Version], lock: PgConnection) -> Result<Running<'_>, RebuildError> {
        let read_model = self.name();
        let served = versions.iter().find(|it| it.active);
        let served = served.ok_or_else(|| RebuildError::NotThere(read_model.to_owned()))?.version;
        let name = Name { read_model, version };
        // A crash may take the last transactions with it: rows and checkpoint alike, so they are done again.
        let pool = pool_of(&self.database, name, self.pace.jobs, [("synchronous_commit", "off")]);
        let target = Arc::new(Target { name, purpose: Purpose::Fill, pool });
        let turns = self.pace.jobs as usize;
        let host = Host::filling(self.fold.clone(), target.clone(), &self.database, self.log.clone(), turns);
        Ok(Running { rebuild: self, host, target, served: Name { read_model, version: served }, _lock: lock })
    }
}

impl Running<'_> {
    /// The version that is being filled.
    pub fn version(&self) -> i32 {
        self.target.name.version
    }

    /// The version that is served meanwhile.
    pub fn served_version(&self) -> i32 {
        self.served.version
    }

    /// Makes the version the one that is served, once it is filled.
    pub async fn switch(&self, stop: &CancellationToken) -> Result<(), RebuildError> {
        switch::switch(self, stop).await
    }
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    error.as_database_error().and_then(|it| it.code()).as_deref() == Some(LOCK_NOT_AVAILABLE)
}
