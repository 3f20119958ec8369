//! What every handler needs, handed to it as axum's state.

use std::sync::Arc;

use nexus_event_store::Keyring;
use nexus_web::problem::Problem;
use sqlx::PgPool;
use tokio_util::task::AbortOnDropHandle;

use super::feed::Feeds;
use super::served::ServedVersions;
use crate::engine::Watcher;
use crate::engine::checkpoint::Name;

/// The read door's state. Cheap to clone.
#[derive(Clone)]
pub struct QueryApi(Arc<Shared>);

struct Shared {
    versions: Arc<ServedVersions>,
    _follower: AbortOnDropHandle<()>,
    /// Connections for checkpoints and lag.
    watch: PgPool,
    keyring: Keyring,
    watcher: Watcher,
    feeds: Feeds,
    settings: Settings,
}

/// What may be set from outside.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Counts of people below this are not told.
    pub small_cell: i64,
}

impl QueryApi {
    pub(super) fn new(
        versions: Arc<ServedVersions>,
        watch: PgPool,
        keyring: Keyring,
        watcher: Watcher,
        feeds: Feeds,
        settings: Settings,
    ) -> Self {
        let follower = versions.follow(watch.clone());
        Self(Arc::new(Shared { versions, _follower: follower, watch, keyring, watcher, feeds, settings }))
    }

    /// The connections that see this read model's tables, and may only read.
    pub fn pool(&self, read_model: &'static str) -> PgPool {
        self.0.versions.pool(read_model)
    }

    /// The version of the read model that answers come from, and that is therefore waited for.
    pub(super) fn served(&self, read_model: &'static str) -> Name<'static> {
        self.0.versions.name(read_model)
    }

    pub(super) fn versions(&self) -> &ServedVersions {
        &self.0.versions
    }

    /// Opens what is sealed and hashes what is looked for.
    pub fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    pub(super) fn watch(&self) -> &PgPool {
        &self.0.watch
    }

    pub(super) fn watcher(&self) -> &Watcher {
        &self.0.watcher
    }

    pub(crate) fn feeds(&self) -> &Feeds {
        &self.0.feeds
    }

    /// Counts of people below this are not told.
    pub fn small_cell(&self) -> i64 {
        self.0.settings.small_cell
    }
}

/// What the database's trouble means for the caller. Its messages may quote values, so only the code is logged.
pub(crate) fn database_problem(error: sqlx::Error) -> Problem {
    /// The statement timeout cancelled it.
    const QUERY_CANCELED: &str = "57014";
    match &error {
        sqlx::Error::PoolTimedOut => Problem::overloaded(),
        sqlx::Error::Io(_) | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => Problem::store_unavailable(),
        sqlx::Error::Database(refusal) => {
            let code = refusal.code().unwrap_or_default();
            tracing::error!(db.code = %code, "the read database refused a statement");
            match code.as_ref() {
                QUERY_CANCELED => Problem::overloaded(),
                // Connection trouble, and a server that is starting, stopping or full.
                code if ["08", "53", "57"].iter().any(|class| code.starts_with(class)) => Problem::store_unavailable(),
                _ => Problem::internal(),
            }
        }
        _ => {
            tracing::error!("a row of the read database has not the expected form");
            Problem::internal()
        }
    }
}
