//! What wakes a relay before its next poll.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;

use super::lease::RELAYS_CHANNEL;
use crate::channel;
use crate::log::APPENDED_CHANNEL;

const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Wake {
    pub appended: Notify,
    pub relays_changed: Notify,
}

/// Listens for ever. While it can't, the relay polls.
pub(super) async fn listen(pool: PgPool, wake: Arc<Wake>) {
    // The listener keeps its connection, so it takes none of the pool's.
    let own = PgPoolOptions::new().max_connections(1).connect_lazy_with((*pool.connect_options()).clone());
    loop {
        if let Err(error) = follow(&pool, &own, &wake).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "polling instead of listening");
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn follow(pool: &PgPool, own: &PgPool, wake: &Wake) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(own).await?;
    channel::listen(&mut listener, pool, &[APPENDED_CHANNEL, RELAYS_CHANNEL]).await?;
    let appended = channel::name_of(pool, APPENDED_CHANNEL).await?;
    loop {
        match listener.recv().await?.channel() {
            name if name == appended => wake.appended.notify_one(),
            _ => wake.relays_changed.notify_one(),
        }
    }
}
