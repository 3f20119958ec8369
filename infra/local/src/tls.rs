//! The files by which a server or a client of a stack proves who it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Certificates as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Whose certificates are believed.
    pub authority: PathBuf,
    /// One's own certificate and its private key (PKCS #8), in one file.
    pub identity: PathBuf,
}

impl TlsFiles {
    pub(crate) fn authority(&self) -> Result<String> {
        read(&self.authority)
    }

    pub(crate) fn identity(&self) -> Result<String> {
        read(&self.identity)
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))
}
