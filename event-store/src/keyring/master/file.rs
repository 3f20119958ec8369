//! A master key in a file: for development, and for places where the file comes from a secret store.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::super::wrap::{self, KeyBytes};
use super::{MasterKeyError, MasterKeyService, Wrapped};

/// How much of a key's hash goes into its name.
const NAME_BYTES: usize = 6;

/// Read anew whenever it is used, which is seldom: the key does not stay in memory, and a file that a rotation has replaced
/// needs no restart.
pub(super) struct KeyFile(PathBuf);

impl KeyFile {
    pub(super) fn open(path: &Path) -> Result<Self, MasterKeyError> {
        read(path)?;
        Ok(Self(path.to_owned()))
    }
}

#[async_trait]
impl MasterKeyService for KeyFile {
    fn place(&self) -> String {
        format!("the file {}", self.0.display())
    }

    async fn wrap(&self, name: &str, key: &[u8; 32]) -> Result<Wrapped, MasterKeyError> {
        Ok(wrapped(&read(&self.0)?, name, key))
    }

    async fn unwrap(&self, name: &str, wrapped: &[u8]) -> Result<KeyBytes, MasterKeyError> {
        wrap::unwrap(&read(&self.0)?, name, wrapped).ok_or(MasterKeyError::Wrong)
    }
}

/// A key of this process, for tests.
pub(super) struct InMemory(pub(super) KeyBytes);

#[async_trait]
impl MasterKeyService for InMemory {
    fn place(&self) -> String {
        "the memory of this process".into()
    }

    async fn wrap(&self, name: &str, key: &[u8; 32]) -> Result<Wrapped, MasterKeyError> {
        Ok(wrapped(&self.0, name, key))
    }

    async fn unwrap(&self, name: &str, wrapped: &[u8]) -> Result<KeyBytes, MasterKeyError> {
        wrap::unwrap(&self.0, name, wrapped).ok_or(MasterKeyError::Wrong)
    }
}

pub(super) fn generate(path: &Path) -> Result<(), MasterKeyError> {
    let text = Zeroizing::new(hex::encode(wrap::random_key().as_slice()));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|error| refuse(path, &error.to_string()))
}

fn read(path: &Path) -> Result<KeyBytes, MasterKeyError> {
    let io = |error: std::io::Error| refuse(path, &error.to_string());
    let mode = std::fs::metadata(path).map_err(io)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(refuse(path, "group or others have access to it; chmod 600 it"));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(io)?);
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), key.as_mut_slice())
        .map_err(|_| refuse(path, "it is not 64 hexadecimal digits"))?;
    Ok(key)
}

fn refuse(path: &Path, why: &str) -> MasterKeyError {
    MasterKeyError::File(format!("{}: {why}", path.display()))
}

fn wrapped(outer: &KeyBytes, name: &str, key: &[u8; 32]) -> Wrapped {
    Wrapped { by: name_of(outer), bytes: wrap::wrap(outer, name, key) }
}

/// A name for a key file that does not change when the file is moved, and gives nothing of the key away: the key is
/// random, so its hash can't be guessed at.
fn name_of(key: &KeyBytes) -> String {
    let mut hash = Sha256::new_with_prefix("nexus-master-key-name-1|");
    hash.update(key.as_slice());
    format!("file:{}", hex::encode(&hash.finalize()[..NAME_BYTES]))
}
