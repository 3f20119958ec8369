//! The issuer's public keys: found through its discovery document, kept while the issuer is away.

use std::{collections::HashMap, path::Path, time::Duration};

use jsonwebtoken::DecodingKey;
use serde::Deserialize;

use crate::{jwk::PublicKey, verifier::ConfigError};

/// How long one request to the issuer may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest document that is read from an issuer, in bytes.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// The most keys that are kept of one issuer.
const KEYS_MAX: usize = 100;

/// Why the keys could not be fetched. Names the step, never what was received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the issuer could not be reached while fetching its {document}")]
    Unreachable { document: &'static str, source: reqwest::Error },
    #[error("the issuer's {document} is larger than {DOCUMENT_BYTES_MAX} bytes")]
    TooLarge { document: &'static str },
    #[error("the issuer's {document} is not what was expected")]
    Malformed { document: &'static str },
    #[error("the discovery document names another issuer than the configured one")]
    OtherIssuer,
    #[error("the issuer publishes no ES256 signing key")]
    NoKeys,
}

/// The keys of one issuer by key id.
#[derive(Clone, Default)]
pub(crate) struct KeySet(HashMap<String, DecodingKey>);

impl KeySet {
    pub fn get(&self, key_id: &str) -> Option<&DecodingKey> {
        self.0.get(key_id)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key that this set knows is missing from the other one.
    pub fn lost_a_key(&self, newer: &KeySet) -> bool {
        self.0.keys().any(|key_id| !newer.0.contains_key(key_id))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Fetches discovery document and key set of one issuer.
pub(crate) struct Fetcher {
    client: reqwest::Client,
    issuer: String,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

/// The certificates in a PEM file, for a client that believes them and no others; nothing if it can't be read or holds none.
pub fn read_authorities(file: &Path) -> Option<Vec<reqwest::Certificate>> {
    let bundle = reqwest::Certificate::from_pem_bundle(&std::fs::read(file).ok()?).ok()?;
    (!bundle.is_empty()).then_some(bundle)
}

impl Fetcher {
    pub fn try_new(issuer: String, authorities: Option<&Path>) -> Result<Self, ConfigError> {
        let mut builder = reqwest::Client::builder();
        if let Some(file) = authorities {
            let unusable = || ConfigError::Authorities(file.to_owned());
            builder = builder.tls_certs_only(read_authorities(file).ok_or_else(unusable)?);
        }
        let client = builder
            // An issuer that is asked over TLS can't send the keys' reader elsewhere without.
            .https_only(issuer.starts_with("https://"))
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, issuer })
    }

    pub async fn fetch(&self) -> Result<KeySet, FetchError> {
        let discovery_url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let discovery: Discovery = self.document("discovery document", &discovery_url).await?;
        if discovery.issuer != self.issuer {
            return Err(FetchError::OtherIssuer);
        }
        let document: Document = self.document("key set", &discovery.jwks_uri).await?;
        let keys = document.keys.into_iter().take(KEYS_MAX).filter_map(signing_key).collect();
        let keys = KeySet(keys);
        if keys.is_empty() { Err(FetchError::NoKeys) } else { Ok(keys) }
    }

    async fn document<T: serde::de::DeserializeOwned>(
        &self,
        document: &'static str,
        url: &str,
    ) -> Result<T, FetchError> {
        let unreachable = |source: reqwest::Error| FetchError::Unreachable { document, source };
        let request = self.client.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let mut response = request.map_err(unreachable)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > DOCUMENT_BYTES_MAX {
                return Err(FetchError::TooLarge { document });
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|_| FetchError::Malformed { document })
    }
}

/// Keys of other kinds, and keys without an id, are passed over.
fn signing_key(value: serde_json::Value) -> Option<(String, DecodingKey)> {
    let key = PublicKey::read(value)?;
    Some((key.id?, key.decoding))
}
