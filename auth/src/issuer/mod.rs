//! The built-in issuer: a small OAuth 2.0 authorization server for one machine and for tests.
//!
//! It signs ES256 tokens for the accounts of a clients file: for services (client credentials, RFC 6749, with a secret or
//! `private_key_jwt`, RFC 7523), and for demo people who sign in on a page of its own (authorization code with PKCE,
//! RFC 7636). It publishes the discovery document and key set that any verifier needs. People's passwords are not its
//! business: demo people have secrets made by a program, and an OpenID Connect provider takes its place where real people
//! sign in. Codes and refresh tokens live in memory: whoever is signed in when it restarts signs in again.

mod routes;

mod authorize;
mod page;
mod token_endpoint;

mod client_authentication;
mod clients;

mod sessions;

mod key;
mod keys;

pub use clients::{Client, ClientKeys, ClientsError, ClientsFile, secret_hash};
pub use key::SigningKey;
pub use keys::{KeyError, Rotation, SigningKeys};

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use uuid::Uuid;

use crate::{dpop, replay::Replay};
use sessions::Sessions;

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
    sessions: Sessions,
    /// Assertions and proofs that were used.
    assertions: Replay,
    proofs: Replay,
}

/// Whom a token is for.
struct Grant<'a> {
    /// The account that it speaks for.
    account_id: &'a str,
    account: &'a Client,
    /// The client that asked for it; the account itself, or an application.
    client_id: &'a str,
    scope: &'a str,
    /// The thumbprint of the key that it is bound to.
    bound_to: Option<&'a str>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation<'a>>,
}

/// RFC 9449 section 6.1.
#[derive(Serialize)]
struct Confirmation<'a> {
    jkt: &'a str,
}

impl Issuer {
    pub fn new(config: IssuerConfig, keys: SigningKeys, clients: ClientsFile) -> Self {
        let (assertions, proofs) = (client_authentication::new_replay(), dpop::new_replay());
        Self(Arc::new(Parts { config, keys, clients, sessions: Sessions::new(), assertions, proofs }))
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

    /// Signs an access token for an account that has proved who it is.
    fn issue(&self, grant: &Grant<'_>) -> Result<String, KeyError> {
        let config = &self.0.config;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.0.keys.current().sign(
            "at+jwt",
            &Claims {
                iss: &config.issuer,
                sub: grant.account_id,
                aud: &config.audience,
                iat: now,
                nbf: now,
                exp: now + config.token_lifetime.as_secs(),
                jti: Uuid::now_v7(),
                client_id: grant.client_id,
                roles: &grant.account.roles,
                patient: grant.account.patient,
                fhir_user: grant.account.fhir_user.as_deref(),
                organization: grant.account.organization,
                scope: grant.scope,
                cnf: grant.bound_to.map(|jkt| Confirmation { jkt }),
            },
        )
    }
}

/// A secret that nobody guesses: 32 bytes of the operating system, in base64url.
fn random_secret() -> Result<String, KeyError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| KeyError::Sign)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
