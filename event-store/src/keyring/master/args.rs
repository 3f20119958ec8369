//! The settings that say where the master key is, the same for every process that opens keys.

use std::path::PathBuf;

use super::{MasterKey, MasterKeyError};
use crate::error::Error;

/// Where the master key is.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct MasterKeyArgs {
    /// The file with the master key; readable by its owner only.
    #[arg(long, env = "NEXUS_MASTER_KEY_FILE", value_name = "FILE")]
    pub master_key_file: Option<PathBuf>,
}

impl MasterKeyArgs {
    /// The master key that these settings name. A file is read at once, so that a bad one is said at once.
    pub fn open(&self) -> Result<MasterKey, Error> {
        match &self.master_key_file {
            Some(path) => MasterKey::from_file(path),
            None => Err(MasterKeyError::Refused("no master key is named: give --master-key-file".into()).into()),
        }
    }
}
