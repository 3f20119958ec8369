//! The process's own tokens: client credentials of the issuer (RFC 6749 section 4.4), always fresh.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nexus_auth::issuer::SigningKeys;
use reqwest::Client;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use url::Url;
use uuid::Uuid;

use super::config::ProofArgs;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const ASSERTION_LIFETIME_SECONDS: u64 = 60;
/// A token is replaced when this much of its life is left at most.
const MARGIN: Duration = Duration::from_secs(30);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    #[error("the issuer does not answer")]
    Away(#[source] reqwest::Error),
    #[error("the issuer refuses the account, with status {0}")]
    Refused(u16),
    #[error("the account's key can't be used")]
    Key,
}

pub(super) struct Credentials {
    http: Client,
    issuer: Url,
    client_id: String,
    proof: Proof,
    current: Mutex<Option<(String, Instant)>>,
}

enum Proof {
    Secret(String),
    Key(PathBuf),
}

#[derive(Deserialize)]
struct Discovery {
    token_endpoint: String,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    #[serde(default)]
    expires_in: u64,
}

impl Credentials {
    /// Nothing if there is neither a secret nor a key.
    pub(super) fn new(http: Client, issuer: Url, client_id: String, proof: ProofArgs) -> Option<Self> {
        let proof = match (proof.client_secret, proof.client_assertion_key_file) {
            (Some(secret), _) => Proof::Secret(secret),
            (None, Some(file)) => Proof::Key(file),
            (None, None) => return None,
        };
        Some(Self { http, issuer, client_id, proof, current: Mutex::default() })
    }

    /// A token that is good for a while. One caller fetches it, the others wait.
    pub(super) async fn token(&self) -> Result<String, NoToken> {
        let mut current = self.current.lock().await;
        if let Some((token, good_until)) = current.as_ref()
            && Instant::now() < *good_until
        {
            return Ok(token.clone());
        }
        let token = self.fetch().await?;
        let lifetime = Duration::from_secs(token.expires_in).saturating_sub(MARGIN);
        *current = Some((token.access_token.clone(), Instant::now() + lifetime));
        Ok(token.access_token)
    }

    /// Forgets a token that was refused; the next one is fetched anew.
    pub(super) async fn refused(&self) {
        *self.current.lock().await = None;
    }

    async fn fetch(&self) -> Result<Token, NoToken> {
        let issuer = self.issuer.as_str().trim_end_matches('/');
        let discovery = format!("{issuer}/.well-known/openid-configuration");
        let discovered = answer(self.http.get(discovery)).await?;
        let Discovery { token_endpoint } = discovered.json().await.map_err(NoToken::Away)?;
        let mut form = vec![("grant_type", "client_credentials".to_owned()), ("client_id", self.client_id.clone())];
        match &self.proof {
            Proof::Secret(secret) => form.push(("client_secret", secret.clone())),
            Proof::Key(file) => {
                form.push(("client_assertion_type", ASSERTION_TYPE.to_owned()));
                form.push(("client_assertion", self.assertion(file, issuer)?));
            }
        }
        answer(self.http.post(token_endpoint).form(&form)).await?.json().await.map_err(NoToken::Away)
    }

    /// Read each time: the key may have been replaced.
    fn assertion(&self, file: &Path, issuer: &str) -> Result<String, NoToken> {
        if !file.exists() {
            return Err(NoToken::Key);
        }
        let keys = SigningKeys::load_or_generate(file).map_err(|_| NoToken::Key)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| NoToken::Key)?.as_secs();
        let claims = json!({
            "iss": self.client_id, "sub": self.client_id, "aud": issuer, "jti": Uuid::new_v4(),
            "iat": now, "exp": now + ASSERTION_LIFETIME_SECONDS,
        });
        keys.current().sign("JWT", &claims).map_err(|_| NoToken::Key)
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<reqwest::Response, NoToken> {
    let answer = request.send().await.map_err(NoToken::Away)?;
    if answer.status().is_success() { Ok(answer) } else { Err(NoToken::Refused(answer.status().as_u16())) }
}
