//! Nonces for proofs: random, the same for everybody for a while, and known to this process only.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use subtle::ConstantTimeEq;
use uuid::Uuid;

/// How long a nonce is handed out; it is accepted for as long again.
const LIFETIME: Duration = Duration::from_secs(60);

pub(super) struct Nonces(Mutex<Pair>);

struct Pair {
    began: Instant,
    current: String,
    previous: Option<String>,
}

impl Nonces {
    pub fn new() -> Self {
        Self(Mutex::new(Pair { began: Instant::now(), current: fresh(), previous: None }))
    }

    pub fn current(&self, now: Instant) -> String {
        self.with_pair(now, |pair| pair.current.clone())
    }

    pub fn accept(&self, nonce: &str, now: Instant) -> bool {
        let same = |one: &str| bool::from(one.as_bytes().ct_eq(nonce.as_bytes()));
        self.with_pair(now, |pair| same(&pair.current) | pair.previous.as_deref().is_some_and(same))
    }

    fn with_pair<T>(&self, now: Instant, look: impl FnOnce(&Pair) -> T) -> T {
        let mut pair = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.saturating_duration_since(pair.began);
        if age >= LIFETIME {
            let former = std::mem::replace(&mut pair.current, fresh());
            pair.previous = (age < LIFETIME * 2).then_some(former);
            pair.began = now;
        }
        look(&pair)
    }
}

/// 122 random bits of the operating system.
fn fresh() -> String {
    Uuid::new_v4().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_its_time_and_the_next() {
        let nonces = Nonces::new();
        let start = Instant::now();
        let first = nonces.current(start);
        assert!(nonces.accept(&first, start) && !nonces.accept("", start) && !nonces.accept("other", start));
        assert!(nonces.accept(&first, start + LIFETIME * 3 / 2));
        assert_ne!(nonces.current(start + LIFETIME * 3 / 2), first);
        assert!(!nonces.accept(&first, start + LIFETIME * 5));
        assert!(!Nonces::new().accept(&first, start), "another process has its own");
    }
}
