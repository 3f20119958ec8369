//! A whole door on a real port: what every request meets, whatever the route.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    routing::{get, post},
};
use nexus_auth::{
    Role,
    issuer::SigningKey,
    policy::{Action, Circumstances, Relation, ResourceContext},
    testing::{TestIssuer, mint_with, unsigned},
};
use nexus_web::{
    extract::{Path, Query},
    json::{Json, JsonLimits},
    pipeline::{Authenticated, Limits, Pipeline, RequestId, authorize_in},
    problem::Problem,
    server::{self, ConnectionLimits, Readiness},
};
use reqwest::{Client, RequestBuilder, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    amount: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    limit: Option<u32>,
}

struct Door {
    address: SocketAddr,
    issuer: TestIssuer,
    release: Arc<Notify>,
    /// Told by a handler that waits, once it has begun to.
    entered: Arc<Notify>,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Door {
    async fn start(limits: Limits) -> Self {
        Self::start_within(limits, ConnectionLimits::default()).await
    }

    async fn start_within(limits: Limits, connections: ConnectionLimits) -> Self {
        let issuer = TestIssuer::start().await;
        let release = Arc::new(Notify::new());
        let held = Arc::clone(&release);
        let entered = Arc::new(Notify::new());
        let (holding, endless) = (Arc::clone(&entered), Arc::clone(&entered));
        let protected = Router::new()
            .route("/who", get(async |Authenticated(caller): Authenticated| Json(json!({"id": caller.id()}))))
            .route("/amounts", post(async |Json(body): Json<Body>| Json(body)))
            .route("/charts/{id}", get(read_chart))
            .route("/list", get(async |Query(filter): Query<Filter>| Json(json!({"limit": filter.limit}))))
            .route("/id", get(async |RequestId(id): RequestId| Json(json!({"id": id}))))
            .route("/bare", get(async |axum::extract::Query(_): axum::extract::Query<Body>| "never"))
            .route("/flood", get(async || vec![b' '; 32 * 1024 * 1024]))
            .route("/panic", get(async || -> &'static str { panic!("on purpose") }))
            .route(
                "/slow",
                get(async || std::future::pending::<()>().await).post(async || std::future::pending::<()>().await),
            )
            .route(
                "/endless",
                get(async move || {
                    endless.notify_one();
                    std::future::pending::<()>().await;
                }),
            )
            .route(
                "/held",
                get(async move || {
                    let released = held.notified();
                    holding.notify_one();
                    released.await;
                }),
            );
        let open = Router::new().route("/open", get(async || "open"));
        let stop = CancellationToken::new();
        let readiness = Readiness::new().check("always", || async { true }).until(stop.clone());
        let router = Pipeline::new(issuer.verifier().await).with_limits(limits).wrap(protected, open);
        let router = router.merge(server::operational_routes(readiness));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving =
            tokio::spawn(server::serve_within(listener, router, stop.clone(), Duration::from_secs(2), connections));
        Self { address, issuer, release, entered, stop, serving }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn get(&self, path: &str) -> RequestBuilder {
        Client::new().get(self.url(path)).bearer_auth(self.issuer.token(Role::Physician))
    }

    fn post(&self, path: &str) -> RequestBuilder {
        Client::new().post(self.url(path)).bearer_auth(self.issuer.token(Role::Physician))
    }
}

async fn read_chart(Authenticated(caller): Authenticated, Path(id): Path<Uuid>) -> Result<Json<Value>, Problem> {
    let in_care = Circumstances { relation: Relation::Own, ..Circumstances::default() };
    authorize_in(&caller, Action::ReadChart, &ResourceContext::of_subject(id), &in_care)?;
    Ok(Json(json!({"id": id})))
}

#[track_caller]
fn assert_common_headers(response: &Response) {
    let headers = response.headers();
    assert!(headers["x-request-id"].to_str().unwrap().parse::<Uuid>().is_ok());
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
}

async fn assert_problem(request: RequestBuilder, status: u16, slug: &str) -> Value {
    let response = request.send().await.unwrap();
    assert_eq!(response.status().as_u16(), status, "{slug}");
    assert_common_headers(&response);
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{slug}");
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["type"], format!("/problems/{slug}"));
    assert_eq!(body["status"].as_u64(), Some(u64::from(status)));
    assert_eq!(body["instance"], id, "the instance is the request id");
    body
}

#[tokio::test]
async fn a_good_request_is_answered() {
    let door = Door::start(Limits::default()).await;
    let response = door.get("/who").header("x-request-id", "mine").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_common_headers(&response);
    assert_eq!(response.json::<Value>().await.unwrap()["id"], "test-physician");
    let response = door.get("/id").send().await.unwrap();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(response.json::<Value>().await.unwrap()["id"], id);
    assert_eq!(Client::new().get(door.url("/open")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn bad_tokens_get_401_and_a_reason() {
    let door = Door::start(Limits::default()).await;
    let issuer = &door.issuer;
    let key = issuer.issuer().keys().current();
    let good = issuer.claims("who", &[Role::Nurse], None);
    let now = good["iat"].as_i64().unwrap();
    let change = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        issuer.mint(&claims)
    };
    let stranger = SigningKey::generate().unwrap();
    let none = format!("{}.", unsigned(&json!({"alg": "none"}), &good));
    let table = [
        ("expired", change("exp", json!(now - 60))),
        ("not-yet-valid", change("nbf", json!(now + 60))),
        ("wrong-issuer", change("iss", json!("http://evil.example"))),
        ("wrong-audience", change("aud", json!("other"))),
        ("missing-claim", change("sub", Value::Null)),
        ("wrong-algorithm", none),
        ("bad-signature", mint_with(&stranger, &json!({"alg": "ES256", "kid": key.id()}), &good)),
        ("unknown-key", mint_with(&stranger, &json!({"alg": "ES256", "kid": stranger.id()}), &good)),
        ("malformed", "not-a-token".to_owned()),
        ("malformed", "a".repeat(9_000)),
    ];
    for (reason, token) in table {
        let request = || Client::new().get(door.url("/who")).bearer_auth(&token);
        let challenge = request().send().await.unwrap().headers()["www-authenticate"].to_str().unwrap().to_owned();
        assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains(reason), "{challenge}");
        let body = assert_problem(request(), 401, "unauthenticated").await;
        assert_eq!(body["rule"], reason);
        assert!(!body.to_string().contains(&token));
    }
    let anonymous = Client::new().get(door.url("/who"));
    assert_eq!(assert_problem(anonymous, 401, "unauthenticated").await["rule"], "missing");
    let basic = Client::new().get(door.url("/who")).basic_auth("physician", Some("x"));
    assert_eq!(assert_problem(basic, 401, "unauthenticated").await["rule"], "missing");
    let twice = door.get("/who").header("authorization", "Bearer x");
    assert_eq!(assert_problem(twice, 401, "unauthenticated").await["rule"], "malformed");
}

#[tokio::test]
async fn bad_requests_get_their_problem() {
    let limits = Limits { json: JsonLimits { depth_max: 8, ..JsonLimits::of_bytes(200) }, ..Limits::default() };
    let door = Door::start(limits).await;
    let json = |text: &'static str| door.post("/amounts").header("content-type", "application/json").body(text);
    assert_eq!(json(r#"{"amount":1}"#).send().await.unwrap().status(), 200);
    assert_problem(json("{"), 400, "malformed-json").await;
    let body = assert_problem(json(r#"{"amount":"Marker"}"#), 400, "invalid-body").await;
    assert_eq!(body["errors"][0]["pointer"], "/amount");
    assert!(!body.to_string().contains("Marker"));
    assert_problem(json(r#"{"amount":1,"more":2}"#), 400, "invalid-body").await;
    assert_problem(json(r#"{"amount":1,"amount":2}"#), 400, "invalid-body").await;
    assert_problem(json("[[[[[[[[[[[[]]]]]]]]]]]]"), 400, "too-deep").await;
    let large = " ".repeat(300);
    assert_problem(door.post("/amounts").header("content-type", "application/json").body(large), 413, "body-too-large")
        .await;
    let chunks = futures::stream::iter((0..30).map(|_| Ok::<_, std::io::Error>(vec![b' '; 10])));
    let unannounced = reqwest::Body::wrap_stream(chunks);
    assert_problem(
        door.post("/amounts").header("content-type", "application/json").body(unannounced),
        413,
        "body-too-large",
    )
    .await;
    assert_problem(door.post("/amounts").body(r#"{"amount":1}"#), 415, "unsupported-media-type").await;
    assert_problem(json(r#"{"amount":1}"#).header("content-encoding", "br"), 415, "unsupported-media-type").await;
    assert_problem(json(r#"{"amount":1}"#).header("content-encoding", "gzip"), 400, "malformed-encoding").await;
    assert_problem(door.get("/nowhere"), 404, "not-found").await;
    assert_problem(door.get("/charts/Marker"), 404, "not-found").await;
    assert_problem(door.get("/panic"), 500, "internal").await;
    let body = assert_problem(door.get("/list?limit=Marker"), 400, "invalid-parameter").await;
    assert!(!body.to_string().contains("Marker"));
    assert_eq!(body["errors"][0]["pointer"], "limit");
    assert_problem(door.get("/list?lmit=1"), 400, "invalid-parameter").await;
    let body = assert_problem(door.get("/bare?amount=Marker"), 400, "invalid-parameter").await;
    assert!(!body.to_string().contains("Marker"), "the framework's text is replaced");
    let wrong_method = door.get("/amounts");
    assert_eq!(door.get("/amounts").send().await.unwrap().headers()["allow"], "POST");
    assert_problem(wrong_method, 405, "method-not-allowed").await;
}

#[tokio::test]
async fn who_may_not_know_gets_404_and_who_may_not_do_gets_403() {
    let door = Door::start(Limits::default()).await;
    let (own, other) = (Uuid::new_v4(), Uuid::new_v4());
    let get = |token: String, id: Uuid| Client::new().get(door.url(&format!("/charts/{id}"))).bearer_auth(token);
    assert_eq!(get(door.issuer.patient_token(own), own).send().await.unwrap().status(), 200);
    assert_problem(get(door.issuer.patient_token(own), other), 404, "not-found").await;
    assert_problem(get(door.issuer.token(Role::Analyst), own), 403, "forbidden").await;
}

#[tokio::test]
async fn too_many_and_too_slow_requests_are_refused() {
    let limits = Limits { in_flight_max: 2, request_timeout: Duration::from_millis(300), ..Limits::default() };
    let door = Door::start(limits).await;
    assert_problem(door.get("/slow"), 503, "overloaded").await;
    assert_problem(door.post("/slow"), 504, "outcome-unknown").await;

    let limits = Limits { in_flight_max: 2, ..Limits::default() };
    let door = Door::start(limits).await;
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(door.get("/held").send())).collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    while door.get("/who").send().await.unwrap().status() != 503 {
        assert!(Instant::now() < deadline, "the door never filled up");
    }
    let response = door.get("/who").send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    assert_problem(door.get("/who"), 503, "overloaded").await;
    assert_eq!(Client::new().get(door.url("/healthz")).send().await.unwrap().status(), 200, "watching goes on");
    door.release.notify_waiters();
    for request in held {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(door.get("/who").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn metrics_know_routes_and_not_addresses() {
    let door = Door::start(Limits::default()).await;
    let id = Uuid::new_v4();
    door.get(&format!("/charts/{id}?name=Marker")).send().await.unwrap();
    door.get("/Marker/unknown").send().await.unwrap();
    let metrics = Client::new().get(door.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains(r#"http_requests_total{route="/charts/{id}",method="GET",status="200"}"#), "{metrics}");
    assert!(metrics.contains(r#"http_request_seconds_bucket{route="(none)""#));
    assert!(!metrics.contains(&id.to_string()) && !metrics.contains("Marker"));
}

#[tokio::test]
async fn readiness_names_its_checks_and_stopping_finishes_accepted_work() {
    let door = Door::start(Limits::default()).await;
    let ready: Value = Client::new().get(door.url("/readyz")).send().await.unwrap().json().await.unwrap();
    assert_eq!(ready, json!({"ready": true, "checks": {"always": true, "not_stopping": true}}));
    let held = tokio::spawn(door.get("/held").send());
    door.entered.notified().await;
    door.stop.cancel();
    door.release.notify_waiters();
    assert_eq!(held.await.unwrap().unwrap().status(), 200);
    door.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_stop_the_stop() {
    let door = Door::start(Limits::default()).await;
    let endless = tokio::spawn(door.get("/endless").send());
    door.entered.notified().await;
    let began = Instant::now();
    door.stop.cancel();
    door.serving.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(4));
    endless.abort();
}

/// Requests whose tokens name invented keys wait for the issuer, but not in anybody's place.
#[tokio::test]
async fn a_flood_of_invented_keys_keeps_nobody_out() {
    let door = Door::start(Limits { in_flight_max: 4, ..Limits::default() }).await;
    let stranger = SigningKey::generate().unwrap();
    let flood = |at: usize| {
        let header = json!({"alg": "ES256", "kid": format!("invented-{at}")});
        let token = mint_with(&stranger, &header, &door.issuer.claims("who", &[Role::Nurse], None));
        tokio::spawn(Client::new().get(door.url("/who")).bearer_auth(token).send())
    };
    let mut waiting: Vec<_> = (0..64).map(flood).collect();
    // All that are answered without a look at the issuer are; the others wait about a second for the next one.
    for _ in 0..20 {
        let response = timeout(Duration::from_secs(5), door.get("/who").send()).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
    }
    for request in waiting.drain(..) {
        assert_eq!(request.await.unwrap().unwrap().status(), 401);
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off_and_gives_up_its_place() {
    let connections = ConnectionLimits {
        connections_max: 2,
        header_timeout: Duration::from_millis(300),
        ..ConnectionLimits::default()
    };
    let door = Door::start_within(Limits::default(), connections).await;
    let mut slow = Vec::new();
    for head in ["", "GET /open HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    // Both places are taken, so this waits for one of them.
    let response = timeout(Duration::from_secs(10), Client::new().get(door.url("/open")).send()).await.unwrap();
    assert_eq!(response.unwrap().status(), 200);
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection was not cut");
    }
}

#[tokio::test]
async fn who_takes_nothing_of_the_answer_is_cut_off_and_gives_up_the_place() {
    let connections = ConnectionLimits {
        connections_max: 1,
        write_timeout: Duration::from_millis(300),
        ..ConnectionLimits::default()
    };
    let door = Door::start_within(Limits::default(), connections).await;
    let mut deaf = TcpStream::connect(door.address).await.unwrap();
    let token = door.issuer.token(Role::Physician);
    let head = format!("GET /flood HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    deaf.write_all(head.as_bytes()).await.unwrap();
    // The only place is taken, and it has never gone away.
    let response = timeout(Duration::from_secs(10), Client::new().get(door.url("/open")).send()).await.unwrap();
    assert_eq!(response.unwrap().status(), 200);
}

#[tokio::test]
async fn whoever_sends_too_much_is_told_so() {
    let door = Door::start(Limits::default()).await;
    let body = vec![b' '; 8 * 1024 * 1024];
    let token = format!("authorization: Bearer {}\r\n", door.issuer.token(Role::Physician));
    for (credentials, status) in [("", "401"), (token.as_str(), "413")] {
        let head = format!(
            "POST /amounts HTTP/1.1\r\nhost: x\r\n{credentials}content-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // A client that writes all of it before it reads.
        stream.write_all(&body).await.expect("nobody breaks the connection");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the answer arrives whole");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}
