//! Tells waiting readers that checkpoints have moved: after the commit, coalesced, never inside a batch's transaction
//! (a `notify` takes a database-wide lock at commit).

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The channel that readers listen on. It carries no payload: they read the checkpoints.
pub const CHANNEL: &str = "projection_progress";
/// Two notifications are at least this far apart.
const INTERVAL_MIN: Duration = Duration::from_millis(5);

/// Handed to everyone who moves checkpoints. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Notifier(Arc<Notify>);

impl Notifier {
    /// Starts the task that sends.
    pub(crate) fn start(database: &PgConnectOptions, stop: CancellationToken) -> Self {
        let options = database.clone().application_name("projector notify");
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
        let moved = Arc::new(Notify::new());
        tokio::spawn(send_all(pool, moved.clone(), stop));
        Self(moved)
    }

    /// For checkpoints that nobody waits for.
    pub(crate) fn silent() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn moved(&self) {
        self.0.notify_one();
    }
}

async fn send_all(pool: PgPool, moved: Arc<Notify>, stop: CancellationToken) {
    while stop.run_until_cancelled(moved.notified()).await.is_some() {
        let sent = sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(&pool).await;
        if sent.is_err() {
            tracing::debug!("readers could not be notified; they poll");
        }
        tokio::time::sleep(INTERVAL_MIN).await;
    }
}

/// Hears a channel, and makes its connection anew when that was lost.
pub(crate) struct Ear {
    channel: &'static str,
    listener: Option<PgListener>,
}

impl Ear {
    pub(crate) fn new(channel: &'static str) -> Self {
        Self { channel, listener: None }
    }

    /// Waits for a notification, or for `pause`: one may get lost, and there may be no connection to hear it by.
    pub(crate) async fn wait(&mut self, pool: &PgPool, pause: Duration) {
        if self.listener.is_none() {
            self.listener = self.listen(pool).await.ok();
        }
        let pause = tokio::time::sleep(pause);
        match &mut self.listener {
            None => pause.await,
            Some(connected) => tokio::select! {
                () = pause => {}
                received = connected.recv() => if received.is_err() { self.listener = None },
            },
        }
    }

    async fn listen(&self, pool: &PgPool) -> Result<PgListener, sqlx::Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(self.channel).await?;
        Ok(listener)
    }
}
