//! The accounts of the built-in issuer: a JSON file
//! `{id: {secret_sha256?, jwks?, roles, person?, redirect_uris?, patient?, fhirUser?, organization?, scope?, name?}}`.
//!
//! An account is a service (it has a secret or publishes its keys and asks for itself), a demo person (it signs in on the
//! page with its secret), or an application (it has addresses to send people back to, and asks for them).
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The SHA-256 of the secret, in lower-case hexadecimal; see [`secret_hash`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_sha256: Option<String>,
    /// The public keys with which it signs assertions (`private_key_jwt`), as a key set (RFC 7517).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<ClientKeys>,
    /// Whether a person signs in with it on the page.
    #[serde(default, skip_serializing_if = "is_false")]
    pub person: bool,
    /// Where an application takes people back; compared to the letter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect_uris: Vec<String>,
    /// The roles that its tokens carry.
    #[serde(default)]
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

/// The public keys of a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientKeys {
    pub keys: Vec<serde_json::Value>,
}

fn is_false(value: &bool) -> bool {
    !value
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
        let expected = client.and_then(|client| client.secret_sha256.as_deref());
        let no_such_secret = "0".repeat(64);
        let presented = secret_hash(secret);
        let same = presented.as_bytes().ct_eq(expected.unwrap_or(&no_such_secret).as_bytes());
        client.filter(|client| client.secret_sha256.is_some() && bool::from(same)).cloned()
    }

    /// The account, whoever asks.
    pub fn find(&self, client_id: &str) -> Option<Client> {
        self.current().get(client_id).cloned()
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
