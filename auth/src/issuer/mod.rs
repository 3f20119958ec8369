//! The built-in issuer: a small OAuth 2.0 authorization server for one machine and for tests.
//!
//! It signs ES256 tokens for the accounts of a clients file (client credentials grant, RFC 6749 section 4.4) and
//! publishes the discovery document and key set that any verifier needs. People's passwords are not its business: an
//! OpenID Connect provider takes its place where people sign in.

mod clients;
mod keys;
mod routes;

pub use clients::{Client, ClientsError, ClientsFile, secret_hash};
pub use keys::{KeyError, SigningKey, SigningKeys};

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use uuid::Uuid;

/// How long a token is valid unless configured otherwise.
pub const TOKEN_LIFETIME_DEFAULT: Duration = Duration::from_secs(3600);
/// The longest lifetime that can be configured.
pub const TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// What an issuer is made of.
pub struct IssuerConfig {
    /// The URL under which the issuer is reached, and the `iss` of its tokens.
    pub issuer: String,
    /// The `aud` of its tokens.
    pub audience: String,
    /// How long its tokens are valid.
    pub token_lifetime: Duration,
}

/// Signs tokens. Cheap to clone.
#[derive(Clone)]
pub struct Issuer(Arc<Parts>);

struct Parts {
    config: IssuerConfig,
    keys: SigningKeys,
    clients: ClientsFile,
}

/// What a token of ours says.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: Uuid,
    client_id: &'a str,
    roles: &'a [crate::Role],
    #[serde(skip_serializing_if = "Option::is_none")]
    patient: Option<Uuid>,
    #[serde(rename = "fhirUser", skip_serializing_if = "Option::is_none")]
    fhir_user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization: Option<Uuid>,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
}

impl Issuer {
    pub fn new(config: IssuerConfig, keys: SigningKeys, clients: ClientsFile) -> Self {
        Self(Arc::new(Parts { config, keys, clients }))
    }

    /// The `iss` of its tokens.
    pub fn url(&self) -> &str {
        &self.0.config.issuer
    }

    /// The keys that it signs with and publishes.
    pub fn keys(&self) -> &SigningKeys {
        &self.0.keys
    }

    /// Discovery document, key set, token endpoint, and a page that says what this is.
    pub fn router(&self) -> axum::Router {
        routes::router(self.clone())
    }

    /// Signs a token for an account that has proved who it is.
    fn issue(&self, client_id: &str, client: &Client, scope: &str) -> Result<String, KeyError> {
        let config = &self.0.config;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.0.keys.current().sign(&Claims {
            iss: &config.issuer,
            sub: client_id,
            aud: &config.audience,
            iat: now,
            nbf: now,
            exp: now + config.token_lifetime.as_secs(),
            jti: Uuid::now_v7(),
            client_id,
            roles: &client.roles,
            patient: client.patient,
            fhir_user: client.fhir_user.as_deref(),
            organization: client.organization,
            scope,
        })
    }
}
