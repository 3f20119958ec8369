//! A whole door on a real port: how bodies come, and how clients write what they want.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::{
    io::Write,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Extension, Request},
    routing::{get, post},
};
use flate2::{Compression, write::GzEncoder};
use nexus_auth::{
    DpopConfig, Role,
    testing::{Holder, TestIssuer},
};
use nexus_web::{
    body::Pace,
    extract::{Path, Query},
    json::{self, Json, JsonLimits},
    pipeline::{Authenticated, Limits, Pipeline},
    problem::Problem,
    room::Room,
    server::{self, Readiness},
};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const FHIR_JSON: &str = "application/fhir+json";
const LARGE: usize = 64 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    amount: u32,
}

struct Door {
    address: SocketAddr,
    issuer: TestIssuer,
}

impl Door {
    /// Bodies must come at this pace; large ones share the room of two.
    async fn start(pace: Pace) -> Self {
        let issuer = TestIssuer::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dpop = DpopConfig { public_url: format!("http://{address}"), required: false, nonces: false };
        let verifier = issuer.verifier().await.with_dpop(&dpop).unwrap();
        let limits = Limits { json: JsonLimits::default().at_pace(pace), ..Limits::default() };
        let large = post(read_large).layer(JsonLimits::of_bytes(LARGE).at_pace(pace).layer());
        let protected = Router::new()
            .route("/amounts", post(async |Json(body): Json<Body>| Json(json!({"amount": body.amount}))))
            .route("/fhir", large)
            .route("/fhir/{type}/{id}", get(read_resource))
            .route("/fhir/Panic", get(async || -> &'static str { panic!("on purpose") }))
            .layer(Extension(Arc::new(Room::of_bytes(2 * LARGE))));
        let open = Router::new().route("/open", get(async || "open"));
        let router = Pipeline::new(verifier).with_limits(limits).wrap(protected, open);
        let router = router.merge(server::operational_routes(Readiness::new()));
        tokio::spawn(server::serve(listener, router, CancellationToken::new(), Duration::from_secs(2)));
        Self { address, issuer }
    }

    fn send(&self, method: Method, path: &str) -> RequestBuilder {
        let request = Client::new().request(method, format!("http://{}{path}", self.address));
        request.bearer_auth(self.issuer.token(Role::Physician))
    }

    fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.send(Method::POST, path).header("content-type", "application/json").body(body)
    }

    /// Whether a large body that is only announced is answered at once.
    async fn refuses_to_begin(&self, bytes: usize) -> bool {
        let token = self.issuer.token(Role::Physician);
        let head = format!(
            "POST /fhir HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             expect: 100-continue\r\ncontent-length: {bytes}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        &status == b"HTTP/1.1 503"
    }

    /// The head of a request whose body comes in chunks.
    async fn open_chunked(&self, path: &str) -> TcpStream {
        let token = self.issuer.token(Role::Physician);
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }
}

/// How many bytes there were.
async fn read_large(Extension(room): Extension<Arc<Room>>, request: Request) -> Result<Json<Value>, Problem> {
    let read = json::read(request, Some(&room)).await?;
    Ok(Json(json!({"bytes": read.bytes.len()})))
}

async fn read_resource(
    Authenticated(caller): Authenticated,
    Path((kind, id)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    match kind.as_str() {
        "Patient" => Ok(Json(json!({"id": id, "caller": caller.id()}))),
        _ => Err(Problem::not_found()),
    }
}

fn hasty() -> Pace {
    Pace { grace: Duration::from_millis(300), bytes_per_second_min: 64 * 1024, whole: Duration::from_secs(20) }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

async fn whole_answer(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.expect("it is ended").unwrap();
    String::from_utf8(answer).unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn idle_uploads_take_no_room_and_are_ended() {
    let door = Door::start(Pace { grace: Duration::from_secs(3), ..hasty() }).await;
    let mut idle = Vec::new();
    for at in 0..300 {
        let mut stream = door.open_chunked("/fhir").await;
        if at % 2 == 0 {
            stream.write_all(b"2\r\n{ \r\n").await.unwrap();
        }
        idle.push(stream);
    }
    let mut large = b"{}".to_vec();
    large.resize(LARGE, b' ');
    let answer = door.post("/fhir", large).send().await.unwrap();
    assert_eq!(answer.status(), 200, "the largest body finds its room beside them");
    for stream in idle {
        let answer = whole_answer(stream).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("/problems/body-too-slow"), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn a_trickling_body_is_ended_on_every_route() {
    let door = Door::start(hasty()).await;
    for path in ["/amounts", "/fhir"] {
        let mut stream = door.open_chunked(path).await;
        let began = Instant::now();
        // The server may have gone before the client notices.
        while began.elapsed() < Duration::from_secs(20) && stream.write_all(b"1\r\n \r\n").await.is_ok() {
            let mut beginning = [0; 12];
            if let Ok(Ok(read)) = timeout(Duration::from_millis(20), stream.read(&mut beginning)).await {
                assert_eq!(&beginning[..read], b"HTTP/1.1 408");
                break;
            }
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{path}");
    }
}

#[tokio::test]
async fn bodies_share_the_room_as_they_grow_and_the_last_one_is_told_to_come_back() {
    let door = Door::start(Pace { grace: Duration::from_secs(30), ..hasty() }).await;
    let chunk = format!("{:x}\r\n{}\r\n", LARGE - 16 * 1024, " ".repeat(LARGE - 16 * 1024));
    let mut growing = Vec::new();
    for _ in 0..2 {
        let mut stream = door.open_chunked("/fhir").await;
        stream.write_all(chunk.as_bytes()).await.unwrap();
        growing.push(stream);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    // Who asks by announcing takes no room from those that still grow.
    while !door.refuses_to_begin(100_000).await {
        assert!(Instant::now() < deadline, "the room never filled up");
    }
    let refused = door.post("/fhir", "{}".to_owned() + &" ".repeat(100_000)).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (503, "1"));
    assert_eq!(door.post("/amounts", r#"{"amount":1}"#).send().await.unwrap().status(), 200, "small ones need none");
    growing.truncate(1);
    let deadline = Instant::now() + Duration::from_secs(20);
    while door.post("/fhir", " ".repeat(100_000) + "{}").send().await.unwrap().status() != 200 {
        assert!(Instant::now() < deadline, "room that was left is free again");
    }
    let mut last = growing.remove(0);
    last.write_all(b"2\r\n{}\r\n0\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    last.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn compressed_bodies_are_read_within_the_same_limits() {
    let door = Door::start(Pace::default()).await;
    let coded =
        |path: &str, coding: &str, body: Vec<u8>| door.post(path, body).header("content-encoding", coding).send();
    for coding in ["gzip", "GZip", "X-GZIP"] {
        let answer = coded("/amounts", coding, gzip(br#"{"amount": 7}"#)).await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap()["amount"], 7, "{coding}");
    }
    let mut large = b"{}".to_vec();
    large.resize(60 * 1024 * 1024, b' ');
    let answer = coded("/fhir", "gzip", gzip(&large)).await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["bytes"], large.len());
    let bomb = gzip(&vec![b' '; 200 * 1024 * 1024]);
    assert!(bomb.len() < 1024 * 1024);
    for path in ["/amounts", "/fhir"] {
        let answer = coded(path, "gzip", bomb.clone()).await.unwrap();
        assert_eq!((answer.status().as_u16(), path), (413, path));
        let answer = coded(path, "gzip", bomb[..bomb.len() / 900].to_vec()).await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap()["type"], "/problems/malformed-encoding", "{path}");
        let answer = coded(path, "br", b"{}".to_vec()).await.unwrap();
        assert_eq!((answer.status().as_u16(), header(&answer, "accept-encoding")), (415, "gzip, identity"));
        assert!(answer.json::<Value>().await.unwrap()["detail"].as_str().unwrap().contains("gzip"));
    }
    let other = door.send(Method::POST, "/amounts").header("content-type", "text/csv").body("a").send().await.unwrap();
    assert_eq!(
        (other.status().as_u16(), header(&other, "accept-encoding")),
        (415, ""),
        "the coding was not the trouble"
    );
    assert_eq!(header(&other, "accept"), "application/json, application/fhir+json");
}

#[tokio::test]
async fn a_byte_order_mark_is_passed_over() {
    let door = Door::start(Pace::default()).await;
    let marked = [&b"\xef\xbb\xbf"[..], br#"{"amount": 3}"#].concat();
    assert_eq!(door.post("/amounts", marked.clone()).send().await.unwrap().status(), 200);
    let coded = door.post("/amounts", gzip(&marked)).header("content-encoding", "gzip");
    assert_eq!(coded.send().await.unwrap().status(), 200);
    let twice = [&b"\xef\xbb\xbf"[..], &marked].concat();
    assert_eq!(door.post("/amounts", twice).send().await.unwrap().status(), 400);
}

/// One request that is refused, and what is expected of it.
struct Refused {
    request: RequestBuilder,
    status: u16,
    issue: &'static str,
    header: &'static str,
}

#[tokio::test]
async fn refusals_of_fhir_routes_are_outcomes_for_who_asks_for_fhir() {
    let door = Door::start(hasty()).await;
    let refused = |request, status, issue, header| Refused { request, status, issue, header };
    let anonymous = Client::new().get(format!("http://{}/fhir/Patient/1", door.address));
    let table = [
        refused(anonymous, 401, "login", "www-authenticate"),
        refused(door.send(Method::GET, "/fhir/Nothing/1"), 404, "not-found", ""),
        refused(door.send(Method::GET, "/fhir/no/such/route"), 404, "not-found", ""),
        refused(door.send(Method::DELETE, "/fhir/Patient/1"), 405, "not-supported", "allow"),
        refused(door.post("/fhir", "{"), 200, "", ""),
        refused(door.post("/fhir", r#"{"a":1,"a":2}"#), 400, "structure", ""),
        refused(door.post("/fhir", "{}").header("content-encoding", "zstd"), 415, "not-supported", "accept-encoding"),
        refused(door.post("/fhir", vec![b' '; LARGE + 1]), 413, "too-long", ""),
        refused(door.send(Method::GET, "/fhir/Panic"), 500, "exception", ""),
    ];
    for Refused { request, status, issue, header: named } in table {
        let answer =
            request.header("accept", "text/html;q=0.1, Application/FHIR+json; charset=utf-8").send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{issue}");
        assert!(named.is_empty() || !header(&answer, named).is_empty(), "{named}");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
        if status == 200 {
            continue;
        }
        assert_eq!(header(&answer, "content-type"), FHIR_JSON, "{issue}");
        let outcome: Value = answer.json().await.unwrap();
        assert_eq!(outcome["resourceType"], "OperationOutcome");
        assert_eq!((&outcome["issue"][0]["severity"], &outcome["issue"][0]["code"]), (&json!("error"), &json!(issue)));
        assert!(outcome["issue"][0]["diagnostics"].as_str().unwrap().contains("/problems/"));
    }
    let by_format = door.send(Method::GET, "/fhir/Nothing/1?_format=json&_pretty=true").send().await.unwrap();
    assert_eq!(header(&by_format, "content-type"), FHIR_JSON);
    assert!(by_format.text().await.unwrap().starts_with("{\n  \"resourceType\": \"OperationOutcome\",\n"));
    for (path, accept) in [("/fhir/Nothing/1", "*/*"), ("/fhir/Nothing/1", "application/json"), ("/nowhere", FHIR_JSON)]
    {
        let answer = door.send(Method::GET, path).header("accept", accept).send().await.unwrap();
        assert_eq!(header(&answer, "content-type"), "application/problem+json", "{path} {accept}");
    }
}

#[tokio::test]
async fn methods_are_told_and_heads_have_no_body() {
    let door = Door::start(Pace::default()).await;
    for (path, methods) in [("/fhir/Patient/1", "GET,HEAD"), ("/amounts", "POST"), ("/open", "GET,HEAD")] {
        let answer = door.send(Method::OPTIONS, path).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), header(&answer, "allow")), (204, methods), "{path}");
    }
    assert_eq!(door.send(Method::OPTIONS, "/nowhere").send().await.unwrap().status(), 404);
    for path in ["/fhir/Patient/1", "/fhir/Nothing/1", "/open", "/healthz"] {
        let (get, head) = (door.send(Method::GET, path), door.send(Method::HEAD, path));
        let (get, head) = (get.send().await.unwrap(), head.send().await.unwrap());
        assert_eq!(
            (get.status(), header(&get, "content-type")),
            (head.status(), header(&head, "content-type")),
            "{path}"
        );
        assert!(!get.bytes().await.unwrap().is_empty() && head.bytes().await.unwrap().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn one_address_may_be_written_in_several_ways() {
    let door = Door::start(Pace::default()).await;
    let id = Uuid::new_v4().to_string();
    for path in [format!("/fhir/Patient/{id}/"), format!("/fhir/%50atient/%{:02X}{}", id.as_bytes()[0], &id[1..])] {
        let answer = door.send(Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap()["id"], id, "{path}");
    }
    assert_eq!(door.post("/fhir/", "{}").send().await.unwrap().status(), 200);
    assert_eq!(door.post("/fhir//", "{}").send().await.unwrap().status(), 404);
    assert_eq!(door.post("/amounts/", "{}").send().await.unwrap().status(), 404, "only FHIR is written in both ways");
    let metrics = door.send(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains(r#"route="/fhir/{type}/{id}""#) && !metrics.contains(&id));

    // A proof names the address as it is sent.
    let holder = Holder::generate();
    let token = door.issuer.bound_token(Role::Physician, &holder);
    let url = format!("http://{}/fhir/Patient/{id}/", door.address);
    let ask = |proof: String| {
        Client::new().get(&url).header("authorization", format!("DPoP {token}")).header("dpop", proof).send()
    };
    assert_eq!(ask(holder.proof("GET", &url, &token)).await.unwrap().status(), 200);
    let other = holder.proof("GET", url.trim_end_matches('/'), &token);
    assert_eq!(ask(other).await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_so_that_the_client_learns_it() {
    let door = Door::start(Pace::default()).await;
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    let head = format!("GET /open HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(400_000));
    // A client that writes all of it before it reads.
    stream.write_all(head.as_bytes()).await.expect("nobody breaks the connection");
    let answer = whole_answer(stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

/// The query's own parameters are as strict as ever beside those of FHIR.
#[tokio::test]
async fn parameters_of_fhir_are_read_by_their_names() {
    let params = |query: &str| {
        let (mut parts, ()) =
            axum::http::Request::builder().uri(format!("/fhir?{query}")).body(()).unwrap().into_parts();
        async move {
            use axum::extract::FromRequestParts;
            Query::<nexus_web::extract::FormatParams>::from_request_parts(&mut parts, &()).await
        }
    };
    let Query(read) = params("_format=application%2Ffhir%2Bjson&_pretty=true").await.unwrap();
    assert_eq!((read.format.as_deref(), read.pretty), (Some(FHIR_JSON), Some(true)));
    assert_eq!(params("_pretty=perhaps").await.unwrap_err().slug(), "invalid-parameter");
    assert_eq!(params("_format=json&_format=xml").await.unwrap_err().slug(), "invalid-parameter");
}
