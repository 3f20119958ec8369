//! The write door, as a reactor's orders reach it.

use std::time::Duration;

use anyhow::{Context, bail};
use nexus_web::transport::{ClientTlsArgs, read_authorities, refuse_plaintext};
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::config::{ProofArgs, ReactorConfig};
use super::credentials::{Credentials, NoToken};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// What takes longer is sent again; the key finds out whether it took effect.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What the door made of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It took effect, now or before.
    Done,
    /// A rule refuses it, with the last part of the problem's type. It would be refused again.
    Refused(String),
    /// What may pass: the door is away or overloaded, or knows this process not yet, or no longer.
    Later(String),
}

/// Sends orders with this process's own account.
pub struct Door {
    http: Client,
    url: Url,
    credentials: Credentials,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
}

impl Door {
    /// # Errors
    /// If a token would go over the network in the clear, or a file can't be read.
    pub fn try_new(config: &ReactorConfig) -> anyhow::Result<Self> {
        for (what, url) in [("the write door", &config.command_url), ("the issuer", &config.issuer)] {
            let host = url.host_str().unwrap_or_default();
            refuse_plaintext(what, host, url.scheme() == "https", "give it an https URL")?;
        }
        let http = client(&config.client_tls)?;
        let ProofArgs { client_secret, client_assertion_key_file } = config.proof.clone();
        let proof = ProofArgs { client_secret, client_assertion_key_file };
        let credentials = Credentials::new(http.clone(), config.issuer.clone(), config.client_id.clone(), proof);
        let Some(credentials) = credentials else { bail!("the account at the issuer has neither a secret nor a key") };
        Ok(Self { http, url: config.command_url.clone(), credentials })
    }

    /// Sends one order under its key.
    pub async fn send(&self, key: &str, path: &str, body: &Value) -> Sent {
        let token = match self.credentials.token().await {
            Ok(token) => token,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "no token to send orders with");
                let reason = if matches!(error, NoToken::Away(_)) { "issuer-away" } else { "no-token" };
                return Sent::Later(reason.to_owned());
            }
        };
        let Ok(url) = self.url.join(path) else { return Sent::Refused("bad-path".to_owned()) };
        let request = self.http.post(url).bearer_auth(token).header("idempotency-key", key);
        let request = request.header("prefer", "return=minimal").json(body);
        match request.send().await {
            Err(_) => Sent::Later("no-answer".to_owned()),
            Ok(answer) if answer.status().is_success() => Sent::Done,
            Ok(answer) => {
                let status = answer.status();
                if status == StatusCode::UNAUTHORIZED {
                    self.credentials.refused().await;
                }
                let problem = answer.json::<Problem>().await.ok();
                meaning(status, &problem.map(|problem| problem.kind).unwrap_or_default())
            }
        }
    }
}

/// What a refusal means. A process that is not allowed to do this (403) has a wrong account or role, which somebody will set
/// right: an alert must not be lost by that.
fn meaning(status: StatusCode, kind: &str) -> Sent {
    let slug = match kind.rsplit('/').next() {
        Some(slug) if !slug.is_empty() => slug.to_owned(),
        _ => format!("status-{}", status.as_u16()),
    };
    let may_pass = matches!(status.as_u16(), 401 | 403 | 408 | 425 | 429 | 500..)
        || matches!(slug.as_str(), "idempotency-in-flight" | "version-conflict");
    if may_pass || !status.is_client_error() { Sent::Later(slug) } else { Sent::Refused(slug) }
}

fn client(tls: &ClientTlsArgs) -> anyhow::Result<Client> {
    let mut builder = Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(REQUEST_TIMEOUT).no_proxy();
    // A token goes only where the setting says.
    builder = builder.redirect(reqwest::redirect::Policy::none());
    if let Some(file) = &tls.ca_file {
        let authorities = read_authorities(file);
        builder = builder.tls_certs_only(
            authorities.with_context(|| format!("{} holds no certificate in PEM form", file.display()))?,
        );
    }
    builder.build().context("no HTTP client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_be_refused_again_is_final() {
        let rows = [
            (409, "/problems/rule-violated", Sent::Refused("rule-violated".into())),
            (404, "/problems/not-found", Sent::Refused("not-found".into())),
            (400, "/problems/invalid-body", Sent::Refused("invalid-body".into())),
            (422, "/problems/unresolved-reference", Sent::Refused("unresolved-reference".into())),
            (422, "", Sent::Refused("status-422".into())),
            (409, "/problems/idempotency-in-flight", Sent::Later("idempotency-in-flight".into())),
            (409, "/problems/version-conflict", Sent::Later("version-conflict".into())),
            (401, "/problems/unauthenticated", Sent::Later("unauthenticated".into())),
            (403, "/problems/forbidden", Sent::Later("forbidden".into())),
            (429, "/problems/rate-limited", Sent::Later("rate-limited".into())),
            (503, "/problems/overloaded", Sent::Later("overloaded".into())),
            (504, "/problems/outcome-unknown", Sent::Later("outcome-unknown".into())),
            (302, "", Sent::Later("status-302".into())),
        ];
        for (status, kind, expected) in rows {
            assert_eq!(meaning(StatusCode::from_u16(status).unwrap(), kind), expected);
        }
    }
}
