//! One trace from the caller's `traceparent` to ours, without any exporter.

use axum::{Router, routing::get};
use nexus_web::{
    pipeline::{Limits, bound},
    telemetry::{self, LogFormat, TelemetryArgs},
};
use tokio::net::TcpListener;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_trace_is_continued_or_begun() {
    // Even with nothing logged, spans have ids.
    let args = TelemetryArgs { log_format: LogFormat::Json, log_filter: "error".to_owned(), otlp_endpoint: None };
    let _telemetry = telemetry::init("trace", &args).unwrap();
    assert_eq!(telemetry::current_traceparent(), None, "outside of any span");

    let router = Router::new().route("/", get(async || telemetry::current_traceparent().unwrap_or_default()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, bound(router, Limits::default())).await });
    let ask = async |parent: Option<&str>| {
        let mut request = reqwest::Client::new().get(&url);
        if let Some(parent) = parent {
            request = request.header("traceparent", parent);
        }
        request.send().await.unwrap().text().await.unwrap()
    };

    let continued = ask(Some(PARENT)).await;
    assert_eq!(&continued[..35], &PARENT[..35], "the same trace");
    assert_ne!(&continued[36..52], &PARENT[36..52], "another span of it");
    let (one, two) = (ask(None).await, ask(Some("garbage")).await);
    assert_eq!((one.len(), two.len()), (55, 55));
    assert_ne!(one[3..35], two[3..35], "each request its own trace");

    // A consumer of the topic goes on where the request ended.
    let span = tracing::info_span!("project");
    telemetry::set_parent(&span, &continued);
    let projected = span.in_scope(|| telemetry::current_traceparent().unwrap());
    assert_eq!(projected[3..35], PARENT[3..35]);
    server.abort();
}
