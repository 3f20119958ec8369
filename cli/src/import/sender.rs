//! Sends one bundle until there is an answer that settles it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

use super::answer::{self, Freshness, Outcome};
use super::credentials::Credentials;
use super::request::Request;
use crate::http;
use crate::stack::Stack;

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long one request is tried before the import gives up: longer than any restart of a service.
const PATIENCE: Duration = Duration::from_secs(300);
/// Conflicts that pass: the first attempt with this key is still being worked on; somebody else was quicker.
const PASSING: [&str; 2] = ["idempotency-in-flight", "version-conflict"];

pub struct Sender {
    client: Client,
    url: String,
    credentials: Credentials,
}

enum Answer {
    Settled(Outcome),
    /// Not now; perhaps after this long.
    Later(Option<Duration>),
    TokenRefused,
}

impl Sender {
    pub fn new(stack: Option<&Stack>, url: String, credentials: Credentials) -> Result<Self> {
        Ok(Self { client: http::client(stack)?, url: url.trim_end_matches('/').to_owned(), credentials })
    }

    /// Tries again after a lost answer, a restart or a refusal for lack of room, always with the same key.
    pub async fn send(&self, request: &Request) -> Result<Outcome> {
        let started = Instant::now();
        let mut backoff = BACKOFF_MIN;
        let mut was_unauthorised = false;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (why, wait) = match self.attempt(request, attempts).await {
                Ok(Answer::Settled(outcome)) => return Ok(outcome),
                Ok(Answer::Later(wait)) => ("it is overloaded or starting".to_owned(), wait),
                Ok(Answer::TokenRefused) if was_unauthorised => bail!("{} refuses the token", self.url),
                Ok(Answer::TokenRefused) => {
                    was_unauthorised = true;
                    self.credentials.refused().await;
                    continue;
                }
                Err(error) => (format!("{error:#}"), None),
            };
            if started.elapsed() > PATIENCE {
                bail!("{} gave no answer for {} s: {why}", self.url, PATIENCE.as_secs());
            }
            tokio::time::sleep(wait.unwrap_or(backoff).min(BACKOFF_MAX)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn attempt(&self, request: &Request, attempt: u32) -> Result<Answer> {
        let token = self.credentials.token().await?;
        let response = self
            .client
            .post(format!("{}/fhir", self.url))
            .bearer_auth(token)
            .header("content-type", "application/fhir+json")
            .header("idempotency-key", request.key.to_string())
            .body(request.body.clone())
            .send()
            .await
            .context("no connection")?;
        read(response, request, attempt).await
    }
}

async fn read(response: Response, request: &Request, attempt: u32) -> Result<Answer> {
    let status = response.status();
    let wait = header(&response, "retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let is_replay = header(&response, "idempotency-replayed").is_some_and(|text| text == "true");
    let body = response.bytes().await.context("the answer was cut off")?;
    // A repeated answer to a repeated request means that this run's own first attempt got through.
    let freshness = if is_replay && attempt == 1 { Freshness::Replayed } else { Freshness::First };
    Ok(match status {
        _ if status.is_success() => Answer::Settled(read_bundle(&body, freshness, request)?),
        StatusCode::UNAUTHORIZED => Answer::TokenRefused,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY => Answer::Later(wait),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Answer::Later(wait),
        StatusCode::CONFLICT if is_passing(&body) => Answer::Later(wait),
        _ => Answer::Settled(answer::of_problem(status.as_u16(), &body)),
    })
}

fn read_bundle(body: &[u8], freshness: Freshness, request: &Request) -> Result<Outcome> {
    let outcome = answer::of_bundle(body, freshness).context("an odd answer")?;
    if let Outcome::Entries(fates) = &outcome
        && fates.len() != request.entries.len()
    {
        bail!("an odd answer: {} entries to {} resources", fates.len(), request.entries.len());
    }
    Ok(outcome)
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn is_passing(body: &[u8]) -> bool {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    problem["type"].as_str().is_some_and(|kind| PASSING.iter().any(|slug| kind.ends_with(slug)))
}
