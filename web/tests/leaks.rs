//! A marked value in a path, query, header, body or panic must not come out in any log line, metric or answer.
//!
//! The door runs in a child process with the telemetry of a real service at its most talkative, so that whatever reaches
//! standard output or standard error by any way is seen.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::{process::Command, time::Duration};

use axum::{
    Router,
    routing::{get, post},
};
use nexus_auth::{Role, testing::TestIssuer};
use nexus_web::{
    extract::{Path, Query},
    json::{Json, RawJson},
    pipeline::Pipeline,
    server::{self, Readiness},
    telemetry::{self, LogFormat, TelemetryArgs},
};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Looks like a name and occurs nowhere else.
const MARK: &str = "Zyxwolfeschlegel";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    amount: u32,
}

#[test]
fn marked_values_stay_inside() {
    for format in ["json", "human"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_serves_marked_requests", "--ignored", "--nocapture", "--test-threads=1"])
            .env("LEAKS_FORMAT", format)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{said}");
        assert!(said.contains("a request was answered") && said.contains("the program panicked"), "logs were captured");
        assert!(said.contains("/charts/{id}"), "spans name routes");
        let leaks: Vec<&str> = said.lines().filter(|line| line.contains(MARK)).collect();
        assert!(leaks.is_empty(), "{format}: {leaks:#?}");
    }
}

#[tokio::test]
#[ignore = "runs as the child of marked_values_stay_inside"]
async fn child_serves_marked_requests() {
    let log_format = if std::env::var("LEAKS_FORMAT").unwrap() == "human" { LogFormat::Human } else { LogFormat::Json };
    let args = TelemetryArgs { log_format, log_filter: "trace".to_owned(), otlp_endpoint: None };
    let _telemetry = telemetry::init("leaks", &args).unwrap();
    let issuer = TestIssuer::start().await;
    let protected = Router::new()
        .route("/charts/{id}", get(async |Path(id): Path<Uuid>| id.to_string()))
        .route("/names/{name}", get(async |Path(_): Path<String>| "seen"))
        .route(
            "/amounts",
            post(async |Json(body): Json<Body>| body.amount.to_string()).get(async |Query(_): Query<Body>| "never"),
        )
        .route("/bare", get(async |axum::extract::Query(_): axum::extract::Query<Body>| "never"))
        .route("/panic", post(async |RawJson(body): RawJson| -> &'static str { panic!("cannot handle {body:?}") }));
    let router = Pipeline::new(issuer.verifier().await).wrap(protected, Router::new());
    let router = router.merge(server::operational_routes(Readiness::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server::serve(listener, router, stop.clone(), Duration::from_secs(5)));

    let token = issuer.token(Role::Physician);
    let bearer = format!("Bearer {token}");
    let marked_bearer = format!("Bearer {MARK}.{MARK}.{MARK}");
    let body = format!(r#"{{"amount":"{MARK}"}}"#);
    let cases: [(&str, &str, &str, &str, &str); 11] = [
        ("GET", &format!("/names/{MARK}?q={MARK}"), &bearer, "", "200"),
        ("GET", &format!("/charts/{MARK}"), &bearer, "", "404"),
        ("GET", &format!("/{MARK}/{MARK}"), &bearer, "", "404"),
        ("GET", &format!("/amounts?amount={MARK}"), &bearer, "", "400"),
        ("GET", &format!("/amounts?{MARK}=1"), &bearer, "", "400"),
        ("GET", &format!("/bare?amount={MARK}"), &bearer, "", "400"),
        ("POST", "/amounts", &bearer, &body, "400"),
        ("POST", "/amounts", &bearer, MARK, "400"),
        ("POST", "/panic", &bearer, &body, "500"),
        ("GET", "/charts/1", &marked_bearer, "", "401"),
        (MARK, "/amounts", &bearer, "", "405"),
    ];
    for (method, target, authorization, body, status) in cases {
        let answer = send(address, method, target, authorization, body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "a {status} case was answered otherwise");
        assert!(!answer.contains(MARK), "an answer repeats what was sent ({status})");
    }
    let metrics = send(address, "GET", "/metrics", &bearer, "").await;
    assert!(metrics.contains("http_requests_total") && !metrics.contains(MARK));
    stop.cancel();
    serving.await.unwrap().unwrap();
}

/// By hand, because an HTTP client would log its own view of the request.
async fn send(address: std::net::SocketAddr, method: &str, target: &str, authorization: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: {MARK}\r\nconnection: close\r\nauthorization: {authorization}\r\n\
         x-request-id: {MARK}\r\ntraceparent: {MARK}\r\ntracestate: a={MARK}\r\nuser-agent: {MARK}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
