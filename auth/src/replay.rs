//! What has been seen and must not come again: a bounded memory that forgets by age and never by size.
//!
//! A cache that drops its oldest entries would let a flood wash away what an attacker wants to send again. This one
//! refuses when it is full.

use std::{
    collections::HashSet,
    mem,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

/// Enough to make two different things with the same fingerprint a matter of 2⁶⁴ attempts.
const FINGERPRINT_BYTES: usize = 16;

/// How one look at the memory ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Never seen within the lifetime; it is from now on.
    Fresh,
    Seen,
    /// Nobody knows, because there is no room to remember it.
    Full,
}

/// Remembers each thing for at least `lifetime`, and at most twice as long.
pub(crate) struct Replay {
    lifetime: Duration,
    generation_max: usize,
    generations: Mutex<Generations>,
}

struct Generations {
    began: Instant,
    current: HashSet<[u8; FINGERPRINT_BYTES]>,
    previous: HashSet<[u8; FINGERPRINT_BYTES]>,
}

impl Replay {
    /// A memory for `generation_max` things per `lifetime`.
    pub fn new(lifetime: Duration, generation_max: usize) -> Self {
        let generations =
            Generations { began: Instant::now(), current: HashSet::default(), previous: HashSet::default() };
        Self { lifetime, generation_max, generations: Mutex::new(generations) }
    }

    /// Looks up the thing that consists of these parts, and remembers it.
    pub fn check(&self, parts: [&str; 2], now: Instant) -> Outcome {
        let mut fingerprint = [0; FINGERPRINT_BYTES];
        fingerprint.copy_from_slice(&digest(parts)[..FINGERPRINT_BYTES]);
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.saturating_duration_since(generations.began);
        if age >= self.lifetime {
            let former = mem::take(&mut generations.current);
            generations.previous = if age < self.lifetime * 2 { former } else { HashSet::default() };
            generations.began = now;
        }
        if generations.previous.contains(&fingerprint) || generations.current.contains(&fingerprint) {
            Outcome::Seen
        } else if generations.current.len() >= self.generation_max {
            Outcome::Full
        } else {
            generations.current.insert(fingerprint);
            Outcome::Fresh
        }
    }
}

/// The length of the first part keeps "ab" + "c" and "a" + "bc" apart.
fn digest([first, second]: [&str; 2]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(first.len().to_be_bytes()).chain_update(first);
    hash.chain_update(second).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_refused_until_its_time_is_over() {
        let lifetime = Duration::from_secs(60);
        let replay = Replay::new(lifetime, 100);
        let start = Instant::now();
        assert_eq!(replay.check(["key", "one"], start), Outcome::Fresh);
        for seconds in [0, 59, 61, 110] {
            let later = start + Duration::from_secs(seconds);
            assert_eq!(replay.check(["key", "one"], later), Outcome::Seen, "after {seconds} s");
        }
        assert_eq!(replay.check(["keyo", "ne"], start), Outcome::Fresh, "the parts are kept apart");
        assert_eq!(replay.check(["key", "one"], start + Duration::from_secs(300)), Outcome::Fresh);
    }

    #[test]
    fn a_flood_is_refused_and_washes_nothing_away() {
        let replay = Replay::new(Duration::from_secs(60), 3);
        let start = Instant::now();
        let outcomes: Vec<_> = ["a", "b", "c", "d"].map(|id| replay.check(["key", id], start)).into();
        assert_eq!(outcomes, [Outcome::Fresh, Outcome::Fresh, Outcome::Fresh, Outcome::Full]);
        assert_eq!(replay.check(["key", "a"], start), Outcome::Seen);
        assert_eq!(replay.check(["key", "d"], start + Duration::from_secs(61)), Outcome::Fresh);
    }
}
