//! The HTTP client of all commands, and tokens for it.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Client;
use serde::Deserialize;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

pub fn client() -> Result<Client> {
    let builder = Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(REQUEST_TIMEOUT).no_proxy();
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
