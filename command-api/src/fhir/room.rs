//! How many bytes of bundles this process holds at a time.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use nexus_web::problem::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::BUNDLE_BYTES_MAX;

/// Two bundles of the largest size, or ten of a usual patient's. Parsed, a bundle takes several times its bytes.
const ROOM_BYTES: usize = 2 * BUNDLE_BYTES_MAX;
/// What a bundle counts as at least, in bytes.
const BUNDLE_BYTES_MIN: usize = 4 * 1024;

/// The room that is left. Cheap to clone.
#[derive(Clone)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_BYTES)))
    }
}

impl Room {
    /// Room for a body as large as announced, or as large as any if it does not say.
    pub fn take(&self, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, Problem> {
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let bytes = announced.unwrap_or(BUNDLE_BYTES_MAX).clamp(BUNDLE_BYTES_MIN, BUNDLE_BYTES_MAX);
        let permits = u32::try_from(bytes).map_err(|_| Problem::internal())?;
        self.0.clone().try_acquire_many_owned(permits).map_err(|_| {
            metrics::counter!("bundles_without_room_total").increment(1);
            Problem::overloaded().with_detail("Too many bytes of bundles are being worked on.")
        })
    }
}
