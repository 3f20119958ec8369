//! `nexus token ROLE`.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::stack::{IdentityProvider, Secrets, Stack, assertion};
use crate::{args, http, output};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub async fn print(stack: &Stack, options: &args::Token) -> Result<ExitCode> {
    output::line(fetch(stack, &options.role).await?.access_token);
    Ok(ExitCode::SUCCESS)
}

/// A token of the demo account of `role`.
pub async fn fetch(stack: &Stack, role: &str) -> Result<http::Token> {
    let secrets = Secrets::load(stack)?;
    let secret = secrets.accounts.get(role).with_context(|| {
        let known: Vec<&str> = secrets.accounts.keys().map(String::as_str).collect();
        format!("there is no demo account `{role}`; there are {}", known.join(", "))
    })?;
    let (client, issuer) = (http::client(Some(stack))?, stack.issuer());
    match stack.identity_provider() {
        IdentityProvider::Auth => {
            http::fetch_token(&client, &format!("{issuer}/token"), role, &[("client_secret", secret)]).await
        }
        IdentityProvider::Keycloak => {
            let assertion = assertion(stack, role)?;
            let proof = [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion.as_str())];
            http::fetch_token(&client, &format!("{issuer}/protocol/openid-connect/token"), role, &proof).await
        }
    }
}
