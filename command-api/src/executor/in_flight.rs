//! Requests that are being carried out by this process right now, by caller and `Idempotency-Key`.
//!
//! Only for a quick "try again in a moment": that a retry changes nothing is the append's doing, whichever process it
//! reaches.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::call::Call;
use crate::refusal::Refusal;

type Keys = HashSet<(String, String)>;

/// The registry. Cheap to clone.
#[derive(Clone, Default)]
pub struct InFlight(Arc<Mutex<Keys>>);

/// A request's place in the registry, given up when dropped.
pub struct Turn(Option<(InFlight, (String, String))>);

impl InFlight {
    /// Enters a request, unless one with the same caller and key is being carried out.
    pub fn enter(&self, call: &Call) -> Result<Turn, Refusal> {
        let Some(key) = &call.idempotency else { return Ok(Turn(None)) };
        let name = (key.actor.clone(), key.key.clone());
        if self.keys().insert(name.clone()) { Ok(Turn(Some((self.clone(), name)))) } else { Err(Refusal::InFlight) }
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((registry, name)) = &self.0 {
            registry.keys().remove(name);
        }
    }
}
