//! The key at the top. It wraps generation keys and secrets, nothing else, so it is asked at start and when a key is
//! rotated, and never for a patient.

mod args;
mod file;
mod vault;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::wrap::{self, KeyBytes};
use crate::error::Error;

pub use args::MasterKeyArgs;

/// Whatever holds a master key: a file, Vault, a cloud's key service.
///
/// The name is bound: what was wrapped under one name does not unwrap under another. Retries of what may pass within
/// seconds belong to the implementation.
#[async_trait]
pub trait MasterKeyService: Send + Sync + 'static {
    /// Where it is, for people: "the file /run/secrets/master.key".
    fn place(&self) -> String;

    /// Wraps a key.
    async fn wrap(&self, name: &str, key: &[u8; 32]) -> Result<Wrapped, MasterKeyError>;

    /// Unwraps a key that was wrapped under this name.
    async fn unwrap(&self, name: &str, wrapped: &[u8]) -> Result<zeroize::Zeroizing<[u8; 32]>, MasterKeyError>;
}

/// A key as a master key wrapped it.
#[derive(Clone, Debug)]
pub struct Wrapped {
    /// Which master key did, with its version if it has one: `file:5f3a…`, `vault:transit/nexus:v2`. No secret.
    pub by: String,
    pub bytes: Vec<u8>,
}

/// Why a master key did not wrap or unwrap. No message holds key material.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// It answered, and this is not what it wrapped under that name.
    #[error("it does not open what is stored")]
    Wrong,
    /// It did not answer, or can't at the moment. Trying again later makes sense.
    #[error("{0}")]
    Unavailable(String),
    /// It answered, and will not do it however often it is asked: denied, no such key, a setting that can't be right.
    #[error("{0}")]
    Refused(String),
    /// The key file is missing, readable by others, or not a key.
    #[error("{0}")]
    File(String),
}

/// The master key of an installation. Cheap to clone.
#[derive(Clone)]
pub struct MasterKey(Arc<dyn MasterKeyService>);

impl MasterKey {
    /// Any service that keeps the contract of [`MasterKeyService`].
    pub fn of(service: impl MasterKeyService) -> Self {
        Self(Arc::new(service))
    }

    /// A key file: 64 hexadecimal digits. A file that group or world may read is refused.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self::of(file::KeyFile::open(path.as_ref()).map_err(Error::from)?))
    }

    /// Writes a new random key, readable by its owner only. An existing file is never overwritten.
    pub fn generate_file(path: impl AsRef<Path>) -> Result<(), Error> {
        file::generate(path.as_ref()).map_err(Error::from)
    }

    /// A key that lives as long as this process, for tests.
    pub fn random() -> Self {
        Self::of(file::InMemory(wrap::random_key()))
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        self.0.place()
    }

    pub(super) async fn wrap(&self, name: &str, key: &KeyBytes) -> Result<Wrapped, Error> {
        Ok(self.0.wrap(name, key).await?)
    }

    /// Unwraps what the store says was wrapped by `by`.
    pub(super) async fn unwrap(&self, name: &str, wrapped: &[u8], by: Option<&str>) -> Result<KeyBytes, Error> {
        self.0.unwrap(name, wrapped).await.map_err(|error| match error {
            MasterKeyError::Wrong => {
                let wrapped_by = by.unwrap_or("a master key that left no name").to_owned();
                Error::WrongMasterKey { wrapped_by, place: self.place() }
            }
            other => other.into(),
        })
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("MasterKey([redacted])")
    }
}
