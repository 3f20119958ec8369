//! Requests to Vault and what its answers mean.

use std::path::Path;
use std::time::Duration;

use nexus_web::transport::{is_this_machine, read_authorities};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::MasterKeyError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Vault answers within milliseconds; behind a proxy that wakes it, within seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How often one request is sent at most when it might pass.
const ATTEMPTS_MAX: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Of Vault's own words, no more than this go into an error.
const WHY_CHARS_MAX: usize = 200;

#[derive(Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    address: url::Url,
    namespace: Option<String>,
}

/// Why Vault did not do it.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No answer, or one that says to come back.
    Away(String),
    Sealed,
    Denied(String),
    Absent(String),
    Invalid(String),
    /// Not Vault's, but ours: a file that can't be read.
    Setting(String),
}

impl Http {
    pub(super) fn try_new(
        address: url::Url,
        namespace: Option<String>,
        authorities: Option<&Path>,
    ) -> Result<Self, MasterKeyError> {
        if address.scheme() != "https" && !address.host_str().is_some_and(is_this_machine) {
            return Err(MasterKeyError::Refused(format!(
                "{address} is not https: keys go in the clear to this machine only"
            )));
        }
        let mut builder = reqwest::Client::builder();
        if let Some(file) = authorities {
            let unusable = || MasterKeyError::Refused(format!("{} holds no certificate in PEM form", file.display()));
            builder = builder.tls_certs_only(read_authorities(file).ok_or_else(unusable)?);
        }
        let client = builder
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            // A token and a key go only where the setting says.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| MasterKeyError::Refused(format!("no HTTP client: {error}")))?;
        Ok(Self { client, address, namespace })
    }

    pub(super) fn address(&self) -> &url::Url {
        &self.address
    }

    /// Posts to `/v1/<path>` and returns the body of the answer.
    pub(super) async fn post(
        &self,
        path: &str,
        token: Option<&str>,
        body: &(impl Serialize + Sync),
    ) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let mut attempt = 1;
        loop {
            match self.post_once(path, token, body).await {
                Err(Refusal::Away(_)) if attempt < ATTEMPTS_MAX => {
                    tokio::time::sleep(RETRY_PAUSE * attempt).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn post_once(
        &self,
        path: &str,
        token: Option<&str>,
        body: &(impl Serialize + Sync),
    ) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let url = self.address.join(&format!("v1/{path}")).map_err(|error| Refusal::Setting(error.to_string()))?;
        // What the HTTP client holds of it is out of our hands; it is not kept longer than the request.
        let body = serde_json::to_vec(body).map_err(|error| Refusal::Setting(error.to_string()))?;
        let json = reqwest::header::HeaderValue::from_static("application/json");
        let mut request = self.client.post(url).header(reqwest::header::CONTENT_TYPE, json).body(body);
        // An agent in between may demand it, so that no browser can be made to ask.
        request = request.header("X-Vault-Request", "true");
        if let Some(token) = token {
            let mut token = reqwest::header::HeaderValue::from_str(token)
                .map_err(|_| Refusal::Setting("the token of Vault is not one line of text".into()))?;
            token.set_sensitive(true);
            request = request.header("X-Vault-Token", token);
        }
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        let answer = request.send().await.map_err(|error| Refusal::Away(root_cause(&error)))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| Refusal::Away(root_cause(&error)))?;
        let body = Zeroizing::new(Vec::from(body));
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    }
}

/// <https://developer.hashicorp.com/vault/api-docs#http-status-codes>
fn refusal(status: StatusCode, body: &[u8]) -> Refusal {
    let why = why(body).unwrap_or_else(|| status.to_string());
    match status.as_u16() {
        // 472 and 473 are standbys that don't serve this.
        503 | 472 | 473 => Refusal::Sealed,
        403 | 401 => Refusal::Denied(why),
        404 => Refusal::Absent(why),
        400 if why.contains("key not found") => Refusal::Absent(why),
        408 | 412 | 429 | 500.. => Refusal::Away(why),
        _ => Refusal::Invalid(why),
    }
}

/// What Vault says of it.
fn why(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let errors = serde_json::from_slice::<Errors>(body).ok()?.errors;
    (!errors.is_empty())
        .then(|| errors.join("; ").split_whitespace().collect::<Vec<_>>().join(" "))
        .map(|why| why.chars().take(WHY_CHARS_MAX).collect())
}

/// The last of a chain says most: "connection refused", not "error sending request".
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_the_documentation_says() {
        let meaning = |status: u16, body: &str| refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        assert!(matches!(meaning(503, r#"{"errors":["Vault is sealed"]}"#), Refusal::Sealed));
        assert!(
            matches!(meaning(403, r#"{"errors":["permission denied"]}"#), Refusal::Denied(why) if why == "permission denied")
        );
        assert!(matches!(meaning(404, r#"{"errors":[]}"#), Refusal::Absent(why) if why == "404 Not Found"));
        assert!(matches!(meaning(400, r#"{"errors":["encryption key not found"]}"#), Refusal::Absent(_)));
        assert!(matches!(meaning(400, r#"{"errors":["invalid request"]}"#), Refusal::Invalid(_)));
        assert!(matches!(meaning(502, "<html>"), Refusal::Away(why) if why == "502 Bad Gateway"));
        assert!(matches!(meaning(429, ""), Refusal::Away(_)));
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        let allowed = |address: &str| Http::try_new(address.parse().unwrap(), None, None).is_ok();
        assert!(allowed("http://127.0.0.1:8200") && allowed("http://[::1]:8200") && allowed("http://localhost:8200"));
        assert!(allowed("https://vault.example:8200"));
        assert!(!allowed("http://vault.example:8200") && !allowed("http://10.0.0.1:8200"));
        assert!(!allowed("http://localhost.example:8200"));
    }
}
