//! Feeds that tell how things are, and not what happened: the whole state whenever it is another one.

use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep_until};

use crate::engine::Follower;
use crate::query_api::QueryApi;

/// The shortest time between two looks of such a feed: checkpoints move many times a second.
const PACE: Duration = Duration::from_millis(250);

/// Wakes a feed when any read model has moved on, and not too often.
pub(crate) struct Paced {
    follower: Follower,
    next: Instant,
}

impl Paced {
    pub(crate) async fn woken(&mut self) {
        self.follower.moved().await;
        sleep_until(self.next).await;
        self.next = Instant::now() + PACE;
    }
}

impl QueryApi {
    /// Follows all read models.
    pub(crate) fn paced(&self) -> Paced {
        Paced { follower: self.watcher().follow(), next: Instant::now() }
    }
}

/// What tells two states apart, without telling anything of either.
pub(crate) fn digest(state: &impl Serialize) -> String {
    let text = serde_json::to_vec(state).expect("states are numbers, ids and strings");
    hex::encode(&Sha256::digest(text)[..16])
}
