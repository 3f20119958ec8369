//! Waiting until events are in Kafka: one listener for everyone who waits.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::channel;

/// The relay says on this channel that it has published something.
pub(crate) const PUBLISHED_CHANNEL: &str = "nexus_published";
/// How often progress is read while somebody waits, should a notification get lost.
const POLL: Duration = Duration::from_millis(250);
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Progress per partition as last read, and the means to be told of more.
#[derive(Clone)]
pub(crate) struct Published {
    progress: watch::Sender<Vec<(i32, i64)>>,
    asked: Arc<Notify>,
}

impl Published {
    /// The handle, and the task that has to be run. `listening` is a pool of its own: the listener keeps a connection.
    pub(crate) fn new(pool: PgPool, listening: PgPool) -> (Self, impl Future<Output = ()> + Send) {
        let published = Self { progress: watch::Sender::new(Vec::new()), asked: Arc::new(Notify::new()) };
        (published.clone(), published.run(pool, listening))
    }

    /// True once all of these positions are in Kafka, false when the deadline comes first.
    pub(crate) async fn wait(&self, positions: &[(i32, i64)], at_most: Duration) -> bool {
        let mut progress = self.progress.subscribe();
        self.asked.notify_one();
        let reached = progress.wait_for(|progress| all_reached(progress, positions));
        matches!(timeout(at_most, reached).await, Ok(Ok(_)))
    }

    async fn run(self, pool: PgPool, listening: PgPool) {
        loop {
            let mut listener = match listen(&pool, &listening).await {
                Ok(listener) => Some(listener),
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "polling for progress instead of listening"
                    );
                    None
                }
            };
            self.follow(&pool, listener.as_mut()).await;
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Reads progress whenever told to, while anybody waits. Returns when the listener has to be made anew.
    async fn follow(&self, pool: &PgPool, mut listener: Option<&mut PgListener>) {
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let usable = tokio::select! {
                () = self.asked.notified() => true,
                heard = hear(&mut listener) => heard,
                _ = poll.tick() => true,
            };
            if !usable {
                return;
            }
            if self.progress.receiver_count() > 0 {
                self.read(pool).await;
            }
        }
    }

    async fn read(&self, pool: &PgPool) {
        match sqlx::query_as("select partition, position from relay_progress").fetch_all(pool).await {
            Ok(progress) => drop(self.progress.send_replace(progress)),
            Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "progress could not be read"),
        }
    }
}

async fn listen(pool: &PgPool, listening: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(listening).await?;
    channel::listen(&mut listener, pool, &[PUBLISHED_CHANNEL]).await?;
    Ok(listener)
}

/// False when the listener has failed. Without one, a pause stands for "try to listen again".
async fn hear(listener: &mut Option<&mut PgListener>) -> bool {
    match listener {
        Some(listener) => listener.recv().await.is_ok(),
        None => {
            tokio::time::sleep(RECONNECT_PAUSE * 4).await;
            false
        }
    }
}

fn all_reached(progress: &[(i32, i64)], positions: &[(i32, i64)]) -> bool {
    let reached = |(partition, position): &(i32, i64)| {
        progress.iter().any(|(other, published)| other == partition && published >= position)
    };
    positions.iter().all(reached)
}
