//! Listening, serving until told to stop, and the routes by which a process is watched.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
    serve::ListenerExt,
};
use futures::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// How long accepted requests get to finish after a signal, unless the service says otherwise.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(20);
/// How long one readiness check may take before it counts as failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

type Check = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// What must hold for a process to do its work: named checks, asked on every `/readyz`.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Check)>,
}

impl Readiness {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check. It is asked often and concurrently with the others, so it must be cheap.
    pub fn check<F, Fut>(mut self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        self.checks.push((name, Arc::new(move || check().boxed())));
        self
    }

    /// Turns unready as soon as the process is asked to stop, so that no new work is sent to it.
    pub fn until(self, shutdown: CancellationToken) -> Self {
        self.check("not_stopping", move || std::future::ready(!shutdown.is_cancelled()))
    }

    /// Asks every check.
    pub async fn ask(&self) -> (bool, Map<String, Value>) {
        let asked = self
            .checks
            .iter()
            .map(|(name, check)| async move { (*name, timeout(CHECK_TIMEOUT, check()).await.unwrap_or(false)) });
        let answers = futures::future::join_all(asked).await;
        let ready = answers.iter().all(|(_, passed)| *passed);
        (ready, answers.into_iter().map(|(name, passed)| (name.to_owned(), passed.into())).collect())
    }
}

/// Binds a listening socket.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// Serves until `shutdown` is cancelled, then lets accepted requests finish for at most `grace`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    grace: Duration,
) -> io::Result<()> {
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = %error, "a connection keeps Nagle's algorithm");
        }
    });
    let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        served = serving.into_future() => served,
        () = async { shutdown.cancelled().await; tokio::time::sleep(grace).await } => {
            tracing::warn!(grace_seconds = grace.as_secs(), "requests were still running when the grace ended");
            Ok(())
        }
    }
}

/// `GET /healthz`, `/readyz` and `/metrics`. Merged after the pipeline: they answer under overload and need no token.
pub fn operational_routes(readiness: Readiness) -> Router {
    // From here on metrics are kept, whether or not telemetry was set up: what was counted before is lost.
    telemetry::metrics_handle();
    Router::new()
        .route("/healthz", get(read_health))
        .route("/readyz", get(read_readiness))
        .route("/metrics", get(read_metrics))
        .with_state(readiness)
}

async fn read_health() -> Json<Value> {
    Json(json!({"alive": true}))
}

async fn read_readiness(State(readiness): State<Readiness>) -> Response {
    let (ready, checks) = readiness.ask().await;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": ready, "checks": checks}))).into_response()
}

async fn read_metrics() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry::render_metrics()).into_response()
}
