//! The key at the top. A file for development; a key service takes its place in production.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::{Zeroize, Zeroizing};

use super::wrap::{self, KeyBytes};
use crate::error::Error;

/// The master key: wraps generation keys and secrets, and nothing else.
pub struct MasterKey(KeyBytes);

impl MasterKey {
    /// Reads a key file: 64 hexadecimal digits. A file that group or world may read is refused.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let refuse = |why: String| Error::MasterKeyFile(why);
        let mode = std::fs::metadata(&path).map_err(|error| refuse(error.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(refuse("group or others have access to it; chmod 600 it".into()));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?);
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), key.as_mut_slice())
            .map_err(|_| refuse("it is not 64 hexadecimal digits".into()))?;
        Ok(Self(key))
    }

    /// Writes a new random key, readable by its owner only. An existing file is never overwritten.
    pub fn generate_file(path: impl AsRef<Path>) -> Result<(), Error> {
        let refuse = |error: std::io::Error| Error::MasterKeyFile(error.to_string());
        let mut text = hex::encode(wrap::random_key().as_slice());
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        text.zeroize();
        written.map_err(refuse)
    }

    /// A key that lives as long as this process, for tests.
    pub fn random() -> Self {
        Self(wrap::random_key())
    }

    pub(super) fn wrap(&self, name: &str, key: &KeyBytes) -> Vec<u8> {
        wrap::wrap(&self.0, name, key)
    }

    pub(super) fn unwrap(&self, name: &str, wrapped: &[u8]) -> Option<KeyBytes> {
        wrap::unwrap(&self.0, name, wrapped)
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("MasterKey([redacted])")
    }
}

impl Clone for MasterKey {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
