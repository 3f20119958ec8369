//! `nexus token ROLE`.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::stack::{Secrets, Stack};
use crate::{args, http, output};

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
    http::fetch_token(&http::client()?, &stack.issuer(), role, secret).await
}
