//! Quotas of callers, browsers of other origins, and what a listener with TLS says of itself.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use nexus_auth::{Role, testing::TestIssuer};
use nexus_web::{
    cors::CorsArgs,
    pipeline::Pipeline,
    rate_limit::RateLimitArgs,
    server::{self, Readiness},
};
use reqwest::{Client, Method, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const APP: &str = "https://app.example";

struct Door {
    address: SocketAddr,
    issuer: TestIssuer,
}

impl Door {
    async fn start(rate: RateLimitArgs, origins: &[&str]) -> Self {
        let issuer = TestIssuer::start().await;
        let cors = CorsArgs { cors_origins: origins.iter().map(|origin| origin.parse().unwrap()).collect() };
        let pipeline = Pipeline::new(issuer.verifier().await).limiting_callers(&rate).open_to_browsers(&cors);
        let protected = Router::new().route("/who", get(async || "you"));
        let open = Router::new().route("/open", get(async || "open"));
        let router = pipeline.wrap(protected, open).merge(server::operational_routes(Readiness::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server::serve(listener, router, CancellationToken::new(), Duration::from_secs(2)));
        Self { address, issuer }
    }

    async fn get(&self, role: Role) -> Response {
        let request = Client::new().get(format!("http://{}/who", self.address));
        request.bearer_auth(self.issuer.token(role)).send().await.unwrap()
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = Client::new().request(method, format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn preflight(&self, path: &str, origin: &str) -> Response {
        let asks = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type,dpop,idempotency-key"),
        ];
        self.send(Method::OPTIONS, path, &asks).await
    }
}

fn rate(requests_per_minute: u32, requests_burst: u32) -> RateLimitArgs {
    RateLimitArgs { requests_per_minute, requests_burst }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

fn says_nothing_of_cors(response: &Response) -> bool {
    response.headers().keys().all(|name| !name.as_str().starts_with("access-control"))
}

#[tokio::test]
async fn a_caller_over_its_quota_is_told_when_to_come_back_and_others_go_on() {
    // One request comes back every 30 s: none does during the first part of this test.
    let door = Door::start(rate(2, 3), &[]).await;
    for remaining in ["2", "1", "0"] {
        let response = door.get(Role::Nurse).await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "ratelimit-policy"), r#""person";q=3;w=90"#);
        assert!(header(&response, "ratelimit").starts_with(&format!(r#""person";r={remaining};t="#)));
    }
    let response = door.get(Role::Nurse).await;
    assert_eq!(response.status(), 429);
    let wait: u64 = header(&response, "retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait));
    assert_eq!(header(&response, "ratelimit"), format!(r#""person";r=0;t={wait}"#));
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["type"], "/problems/rate-limited");

    assert_eq!(door.get(Role::Physician).await.status(), 200, "others are not affected");
    assert_eq!(header(&door.get(Role::Service).await, "ratelimit-policy"), r#""service";q=30;w=90"#);
    assert_eq!(door.send(Method::GET, "/open", &[]).await.status(), 200);
    let anonymous = door.send(Method::GET, "/who", &[]).await;
    assert!(anonymous.status() == 401 && !anonymous.headers().contains_key("ratelimit"));
    let metrics = door.send(Method::GET, "/metrics", &[]).await.text().await.unwrap();
    let counted = metrics.lines().find(|line| line.starts_with("http_requests_limited_total")).unwrap();
    assert!(counted.starts_with(r#"http_requests_limited_total{policy="person"} "#), "{counted}");
}

#[tokio::test]
async fn a_quota_comes_back() {
    let door = Door::start(rate(120, 1), &[]).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    // However slow this machine is, at some time two requests are closer than half a second.
    while door.get(Role::Nurse).await.status() != 429 {
        assert!(Instant::now() < deadline, "nothing was ever refused");
    }
    while door.get(Role::Nurse).await.status() != 200 {
        assert!(Instant::now() < deadline, "the quota never came back");
    }
}

#[tokio::test]
async fn no_limit_says_nothing() {
    let door = Door::start(rate(0, 1), &[]).await;
    for _ in 0..20 {
        let response = door.get(Role::Nurse).await;
        assert!(response.status() == 200 && !response.headers().contains_key("ratelimit"));
    }
}

#[tokio::test]
async fn no_page_of_another_origin_gets_in_unless_it_is_named() {
    let door = Door::start(rate(0, 1), &[]).await;
    assert!(says_nothing_of_cors(&door.preflight("/who", APP).await));
    assert!(door.preflight("/who", APP).await.status().is_client_error());
    assert!(says_nothing_of_cors(&door.send(Method::GET, "/open", &[("origin", APP)]).await));
}

#[tokio::test]
async fn a_named_origin_gets_in_and_no_other() {
    let door = Door::start(rate(60, 10), &["https://other.example", APP]).await;
    for path in ["/who", "/nowhere"] {
        let response = &door.preflight(path, APP).await;
        assert_eq!(response.status(), 200, "a preflight needs no token, and no route");
        assert_eq!(header(response, "access-control-allow-origin"), APP);
        assert_eq!(header(response, "access-control-allow-methods"), "GET,POST,PUT");
        let allowed = header(response, "access-control-allow-headers");
        for name in ["authorization", "content-type", "dpop", "idempotency-key", "if-match", "nexus-position"] {
            assert!(allowed.split(',').any(|it| it == name), "{name}");
        }
        assert!(header(response, "vary").contains("origin"));
        assert!(!response.headers().contains_key("access-control-allow-credentials"));
    }

    let token = format!("Bearer {}", door.issuer.token(Role::Nurse));
    let answer = door.send(Method::GET, "/who", &[("origin", APP), ("authorization", &token)]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "access-control-allow-origin"), APP);
    let shown = header(&answer, "access-control-expose-headers");
    for name in ["etag", "location", "nexus-position", "ratelimit", "retry-after"] {
        assert!(shown.split(',').any(|it| it == name), "{name}");
    }
    let refused = door.send(Method::GET, "/who", &[("origin", APP)]).await;
    assert_eq!(refused.status(), 401);
    assert_eq!(header(&refused, "access-control-allow-origin"), APP, "a page may read why it was refused");

    for origin in ["https://evil.example", "https://app.example.evil", "http://app.example", "null"] {
        let preflight = door.preflight("/who", origin).await;
        let answer = door.send(Method::GET, "/open", &[("origin", origin)]).await;
        for response in [preflight, answer] {
            assert!(!response.headers().contains_key("access-control-allow-origin"), "{origin}");
        }
    }
    let watched = door.send(Method::GET, "/metrics", &[("origin", APP)]).await;
    assert!(says_nothing_of_cors(&watched), "what watches a process is for no browser");
}
