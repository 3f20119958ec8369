//! Somebody who sends requests: a value with a method per verb.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Sends requests to one door, as somebody or as nobody.
#[derive(Clone)]
pub struct Caller {
    client: Client,
    url: String,
    token: Option<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Caller {
    /// Nobody: no token at all.
    pub fn anonymous(url: impl Into<String>) -> Self {
        let client = Client::builder().timeout(TIMEOUT).no_proxy().build().expect("an HTTP client can be made");
        Self { client, url: url.into(), token: None }
    }

    pub fn with_token(url: impl Into<String>, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..Self::anonymous(url) }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path).answer().await
    }

    /// Posts JSON with an idempotency key of its own.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, body).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, body).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path).header("idempotency-key", Uuid::new_v4().to_string()).answer().await
    }

    /// Posts a FHIR bundle under this idempotency key.
    pub async fn post_fhir(&self, body: impl Into<Vec<u8>>, key: &str) -> Answer {
        let request = self.request(Method::POST, "/fhir").header("content-type", "application/fhir+json");
        request.header("idempotency-key", key).body(body.into()).answer().await
    }

    /// A request with this caller's token, to be finished by the test and sent with [`Sendable::answer`].
    pub fn request(&self, method: Method, path: &str) -> Sendable {
        let request = self.client.request(method, format!("{}{path}", self.url));
        Sendable(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        let key = Uuid::new_v4().to_string();
        self.request(method, path).header("idempotency-key", key).json(body).answer().await
    }
}

/// A request that has not been sent.
#[must_use]
pub struct Sendable(RequestBuilder);

impl Sendable {
    pub fn header(self, name: &str, value: impl AsRef<str>) -> Self {
        Self(self.0.header(name, value.as_ref()))
    }

    pub fn json(self, body: &Value) -> Self {
        Self(self.0.json(body))
    }

    pub fn body(self, body: Vec<u8>) -> Self {
        Self(self.0.body(body))
    }

    /// Sends it; panics if there is no answer.
    pub async fn answer(self) -> Answer {
        self.try_answer().await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
    }

    /// Sends it to a service that may be gone.
    pub async fn try_answer(self) -> Result<Answer, reqwest::Error> {
        let response = self.0.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }
}

impl Answer {
    /// The body as JSON; panics with the answer if it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Itself, if it has this status; else panics with the answer.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// Asserts a problem of this type and gives its body.
    #[track_caller]
    pub fn problem(&self, status: u16, slug: &str) -> Value {
        let body = self.json();
        let found = (self.status.as_u16(), body["type"].as_str().unwrap_or_default());
        assert_eq!(found, (status, format!("/problems/{slug}").as_str()), "{}", self.text);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        body
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The position token of an accepted command.
    #[track_caller]
    pub fn position(&self) -> &str {
        self.header("nexus-position").unwrap_or_else(|| panic!("no Nexus-Position: {self:?}"))
    }
}
