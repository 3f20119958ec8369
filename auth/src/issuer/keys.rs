//! The issuer's signing keys and when each of them signs, in one PEM file that only its owner can read.
//!
//! A key is published before it signs, so that verifiers know it by then, and stays published after it has signed, until
//! the last of its tokens has expired. Which key does what follows from the clock alone: the file says from when each key
//! signs, and a restart changes nothing.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use p256::{SecretKey, pkcs8::DecodePrivateKey};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::key::SigningKey;
use crate::verifier::{LEEWAY_SECONDS, now_seconds};

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
/// Stands before each key of the file; RFC 7468 leaves room for explanations there.
const SIGNS_FROM: &str = "signs-from: ";
/// How many keys are kept at a time.
const KEYS_MAX: usize = 16;

/// What can be wrong with a key or its file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the signing key file could not be read or written")]
    Io(#[from] io::Error),
    #[error("the signing key file can be read by others than its owner; set its mode to 600")]
    ReadableByOthers,
    #[error("the signing key file holds no PEM-encoded P-256 private key")]
    Malformed,
    #[error("{KEYS_MAX} keys are still needed; wait until the tokens of the oldest have expired")]
    TooMany,
    #[error("a token could not be signed")]
    Sign,
}

/// When keys come and go.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// How long a key signs before the next one does.
    pub period: Duration,
    /// How long a key is published before it signs; longer than verifiers keep a key set without looking (ours: 300 s).
    pub lead: Duration,
    /// How long the tokens of a key may be valid.
    pub token_lifetime: Duration,
}

/// The keys of an issuer, oldest first.
pub struct SigningKeys {
    path: Option<PathBuf>,
    scheduled: RwLock<Arc<Vec<Scheduled>>>,
    /// Held while keys change: one change at a time, and readers don't wait for the disk.
    changing: Mutex<()>,
}

#[derive(Clone)]
struct Scheduled {
    key: Arc<SigningKey>,
    /// In seconds since 1970.
    signs_from: i64,
}

impl SigningKeys {
    /// One fresh key, kept nowhere: for an issuer that lives as long as a test.
    pub fn ephemeral() -> Result<Self, KeyError> {
        Ok(Self::new(None, vec![Scheduled::fresh(now_seconds())?]))
    }

    /// Reads the key file, or makes it with a fresh key at the first start.
    pub fn load_or_generate(path: &Path) -> Result<Self, KeyError> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Self::new(Some(path.to_owned()), parse(path, &Zeroizing::new(text))?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let keys = vec![Scheduled::fresh(now_seconds())?];
                write(path, &keys)?;
                Ok(Self::new(Some(path.to_owned()), keys))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Publishes a fresh key that will sign after `lead`, unless one is waiting already. With a lead of zero it signs at
    /// once, which costs verifiers an extra fetch. The former key stays published either way; one that others may know
    /// must leave with its tokens: delete the file and start again.
    pub fn rotate(&self, lead: Duration) -> Result<(), KeyError> {
        let now = now_seconds();
        self.change(|keys| {
            if !lead.is_zero() && keys.iter().any(|key| key.signs_from > now) {
                return Ok(false);
            }
            if keys.len() >= KEYS_MAX {
                return Err(KeyError::TooMany);
            }
            keys.push(Scheduled::fresh(now.saturating_add(seconds(lead)))?);
            keys.sort_by_key(|key| key.signs_from);
            Ok(true)
        })
    }

    /// Does what is due: publishes the next key in time, and takes away keys whose last token has expired. Whether
    /// anything changed is logged.
    pub fn maintain(&self, rotation: &Rotation) -> Result<(), KeyError> {
        let now = now_seconds();
        self.change(|keys| Ok(retire(keys, now, rotation.token_lifetime)))?;
        let next = self.all().last().map_or(now, |key| key.signs_from.saturating_add(seconds(rotation.period)));
        if next.saturating_sub(seconds(rotation.lead)) <= now { self.rotate(rotation.lead) } else { Ok(()) }
    }

    /// The key that signs.
    pub fn current(&self) -> Arc<SigningKey> {
        let (keys, now) = (self.all(), now_seconds());
        // A clock that was set back may leave none that signs already; the oldest is known to most then.
        let current = keys.iter().rev().find(|key| key.signs_from <= now).unwrap_or(&keys[0]);
        Arc::clone(&current.key)
    }

    /// The key set as verifiers fetch it (RFC 7517).
    pub fn public_set(&self) -> Value {
        json!({"keys": self.all().iter().map(|scheduled| scheduled.key.public_jwk()).collect::<Vec<_>>()})
    }

    fn new(path: Option<PathBuf>, keys: Vec<Scheduled>) -> Self {
        Self { path, scheduled: RwLock::new(Arc::new(keys)), changing: Mutex::default() }
    }

    fn all(&self) -> Arc<Vec<Scheduled>> {
        Arc::clone(&self.scheduled.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes a copy, writes it, and only then lets others see it: no key signs that a restart would forget.
    fn change(&self, change: impl FnOnce(&mut Vec<Scheduled>) -> Result<bool, KeyError>) -> Result<(), KeyError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys = self.all().to_vec();
        if !change(&mut keys)? {
            return Ok(());
        }
        if let Some(path) = &self.path {
            write(path, &keys)?;
        }
        tracing::info!(keys = keys.len(), "the published signing keys changed");
        *self.scheduled.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }
}

impl Scheduled {
    fn fresh(signs_from: i64) -> Result<Self, KeyError> {
        Ok(Self { key: Arc::new(SigningKey::generate()?), signs_from })
    }
}

/// A key is over when its successor has signed for longer than a token lives.
fn retire(keys: &mut Vec<Scheduled>, now: i64, token_lifetime: Duration) -> bool {
    let kept_for = seconds(token_lifetime).saturating_add(LEEWAY_SECONDS);
    let over = keys.iter().skip(1).filter(|successor| successor.signs_from.saturating_add(kept_for) <= now).count();
    keys.drain(..over);
    over > 0
}

/// Writes all keys to a file that only its owner can read, in one step.
fn write(path: &Path, keys: &[Scheduled]) -> Result<(), KeyError> {
    let draft = path.with_extension("draft");
    fs::remove_file(&draft)
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    for Scheduled { key, signs_from } in keys {
        writeln!(file, "{SIGNS_FROM}{signs_from}")?;
        file.write_all(key.to_pem()?.as_bytes())?;
    }
    file.sync_all()?;
    fs::rename(&draft, path)?;
    Ok(())
}

fn parse(path: &Path, text: &str) -> Result<Vec<Scheduled>, KeyError> {
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        return Err(KeyError::ReadableByOthers);
    }
    let mut keys = Vec::new();
    for block in text.split_inclusive(PEM_END).filter(|block| block.contains(PEM_END)) {
        let (explanation, _) = block.split_once(PEM_BEGIN).ok_or(KeyError::Malformed)?;
        let secret = SecretKey::from_pkcs8_pem(&block[explanation.len()..]).map_err(|_| KeyError::Malformed)?;
        // A file without a time is one of before there were rotations.
        let signs_from = explanation.lines().find_map(|line| line.strip_prefix(SIGNS_FROM));
        let signs_from = signs_from.map_or(Ok(0), |text| text.trim().parse().map_err(|_| KeyError::Malformed))?;
        keys.push(Scheduled { key: Arc::new(SigningKey::from_secret(secret)?), signs_from });
    }
    keys.sort_by_key(|key| key.signs_from);
    if keys.is_empty() { Err(KeyError::Malformed) } else { Ok(keys) }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(keys: &SigningKeys) -> Vec<String> {
        keys.all().iter().map(|scheduled| scheduled.key.id().to_owned()).collect()
    }

    fn aged(by: Duration) -> SigningKeys {
        SigningKeys::new(None, vec![Scheduled::fresh(now_seconds() - seconds(by)).unwrap()])
    }

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const ROTATION: Rotation =
        Rotation { period: DAY, lead: Duration::from_secs(600), token_lifetime: Duration::from_secs(3600) };

    #[test]
    fn a_key_is_published_before_it_signs() {
        let keys = aged(DAY - ROTATION.lead);
        let first = keys.current().id().to_owned();
        for _ in 0..3 {
            keys.maintain(&ROTATION).unwrap();
        }
        assert_eq!(ids(&keys).len(), 2, "one is announced, and only once");
        assert_eq!(keys.current().id(), first, "and does not sign yet");
        keys.rotate(ROTATION.lead).unwrap();
        assert_eq!(ids(&keys).len(), 2, "a command adds none while one waits");
        let young = aged(DAY / 2);
        young.maintain(&ROTATION).unwrap();
        assert_eq!(ids(&young).len(), 1);
    }

    #[test]
    fn a_key_leaves_when_its_last_token_has_expired() {
        let now = now_seconds();
        let at = |age: i64| Scheduled::fresh(now - age).unwrap();
        let kept_for = 3600 + LEEWAY_SECONDS;
        let keys = SigningKeys::new(None, vec![at(90_000), at(kept_for + 50), at(kept_for - 50)]);
        let before = ids(&keys);
        keys.maintain(&ROTATION).unwrap();
        assert_eq!(ids(&keys), before[1..], "the successor of the second signs for too short a time");
    }

    #[test]
    fn a_key_can_be_made_to_sign_at_once() {
        let keys = aged(DAY / 2);
        keys.rotate(ROTATION.lead).unwrap();
        let waiting = ids(&keys)[1].clone();
        keys.rotate(Duration::ZERO).unwrap();
        assert_eq!(ids(&keys).len(), 3);
        assert_eq!(ids(&keys)[2], waiting, "what was announced keeps its time");
        assert_eq!(keys.current().id(), ids(&keys)[1]);
        let refused = (0..20).map(|_| keys.rotate(Duration::ZERO)).find(Result::is_err);
        assert!(matches!(refused, Some(Err(KeyError::TooMany))), "never at the price of a key that is needed");
    }
}
