//! The HTTP client of all commands, and tokens for it.

use std::time::Duration;

use anyhow::{Context, Result};
use nexus_local::kafka::ADMINISTRATOR;
use reqwest::{Certificate, Client, Identity};
use serde::Deserialize;

use crate::stack::Stack;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// A client that believes the stack's authority too, and shows the certificate of this program.
pub fn client(stack: Option<&Stack>) -> Result<Client> {
    let mut builder = Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(REQUEST_TIMEOUT).no_proxy();
    if let Some(stack) = stack {
        let files = stack.tls_files(ADMINISTRATOR);
        let read = |path| std::fs::read(path).context("this stack has no certificates; run `./nexus up` first");
        builder = builder
            .tls_certs_merge([Certificate::from_pem(&read(&files.authority)?)?])
            .identity(Identity::from_pem(&read(&files.identity)?)?);
    }
    builder.build().context("can't make an HTTP client")
}

/// A bearer token and how long it lives.
#[derive(Deserialize)]
pub struct Token {
    pub access_token: String,
    #[serde(default)]
    pub expires_in: u64,
}

/// Client credentials to token, at the issuer's token endpoint. `proof` is what the client proves itself with.
pub async fn fetch_token(client: &Client, endpoint: &str, account: &str, proof: &[(&str, &str)]) -> Result<Token> {
    let form = [&[("grant_type", "client_credentials"), ("client_id", account)], proof].concat();
    let response = client.post(endpoint).form(&form).send().await;
    let response = response.with_context(|| format!("the issuer does not answer at {endpoint}; is the stack up?"))?;
    let response = response.error_for_status().context("the issuer gives no token")?;
    response.json().await.context("the issuer's answer has another shape")
}
