//! The accounts of the built-in issuer: a JSON file `{client_id: {secret_sha256, roles, patient?, fhirUser?, organization?,
//! scope?, name?}}`.
//!
//! A plain SHA-256 is enough because the secrets are made by a program from 256 random bits; it would not be for
//! anything that a person chose. The file is read again when it changes, so that accounts come and go without a restart.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::caller::Role;

/// What can be wrong with the clients file.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    #[error("the clients file could not be read")]
    Io(#[from] io::Error),
    #[error("the clients file is not the expected JSON: line {line}, column {column}")]
    Malformed { line: usize, column: usize },
}

/// One account.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The SHA-256 of the secret, in lower-case hexadecimal; see [`secret_hash`].
    pub secret_sha256: String,
    /// The roles that its tokens carry.
    pub roles: Vec<Role>,
    /// The patient record that is the account holder's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<Uuid>,
    /// The resource that the account holder is, such as `Practitioner/<uuid>`.
    #[serde(default, rename = "fhirUser", skip_serializing_if = "Option::is_none")]
    pub fhir_user: Option<String>,
    /// The organization of the directory that the account holder works for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<Uuid>,
    /// The scopes that it may ask for, separated by spaces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// What people call the account. Never part of a token.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// How a secret is kept in the clients file.
pub fn secret_hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// The accounts, from a file that may change or from memory.
pub struct ClientsFile {
    path: Option<PathBuf>,
    loaded: RwLock<Loaded>,
}

#[derive(Clone)]
struct Loaded {
    modified: Option<SystemTime>,
    clients: Arc<HashMap<String, Client>>,
}

impl ClientsFile {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Self, ClientsError> {
        Ok(Self { path: Some(path.to_owned()), loaded: RwLock::new(load(path)?) })
    }

    /// Accounts without a file.
    pub fn in_memory(clients: HashMap<String, Client>) -> Self {
        let loaded = Loaded { modified: None, clients: Arc::new(clients) };
        Self { path: None, loaded: RwLock::new(loaded) }
    }

    /// The account, if the secret is its own. Takes as long for an unknown account as for a wrong secret.
    pub fn authenticate(&self, client_id: &str, secret: &str) -> Option<Client> {
        let clients = self.current();
        let client = clients.get(client_id);
        let expected = client.map(|client| client.secret_sha256.as_str());
        let no_such_secret = "0".repeat(64);
        let presented = secret_hash(secret);
        let same = presented.as_bytes().ct_eq(expected.unwrap_or(&no_such_secret).as_bytes());
        client.filter(|_| bool::from(same)).cloned()
    }

    fn current(&self) -> Arc<HashMap<String, Client>> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(path) = &self.path else { return loaded.clients };
        if modified(path) == loaded.modified {
            return loaded.clients;
        }
        match load(path) {
            Ok(newer) => {
                tracing::info!(accounts = newer.clients.len(), "the clients file changed and was read again");
                *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = newer.clone();
                newer.clients
            }
            Err(error) => {
                tracing::warn!(error = %error, "the clients file changed and cannot be read; the former accounts stay");
                loaded.clients
            }
        }
    }
}

fn load(path: &Path) -> Result<Loaded, ClientsError> {
    let modified = modified(path);
    let bytes = fs::read(path)?;
    let clients = serde_json::from_slice(&bytes)
        .map_err(|error| ClientsError::Malformed { line: error.line(), column: error.column() })?;
    Ok(Loaded { modified, clients: Arc::new(clients) })
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
