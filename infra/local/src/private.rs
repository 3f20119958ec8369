//! Files that are nobody else's business.

use std::fs::{OpenOptions, remove_file, rename};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes a file that only its owner can read; it is never visible half-written.
pub fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let draft = path.with_extension("draft");
    if draft.exists() {
        remove_file(&draft)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    rename(&draft, path).with_context(|| format!("can't write {}", path.display()))
}
