//! Listening, serving until told to stop, and the routes by which a process is watched.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::{FutureExt, future::BoxFuture};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::{
    access::PeerAddress,
    address,
    stall::Impatient,
    telemetry,
    tls::{Tls, TlsArgs, TlsError},
};

/// How long accepted requests get to finish after a signal, unless the service says otherwise.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(20);
/// How long one readiness check may take before it counts as failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait when the system refuses a connection for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What a process lets connections have. They need no token, so these bounds are all there is to them.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections open at a time; further ones wait to be accepted.
    pub connections_max: usize,
    /// How long a client may take to send the head of a request, and how long a connection may be idle.
    pub header_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// The largest head of a request, and how much of a connection is buffered, in bytes.
    pub buffer_bytes_max: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            header_timeout: Duration::from_secs(20),
            // Shorter than the grace, so that nobody holds up the end of the process.
            write_timeout: Duration::from_secs(15),
            buffer_bytes_max: 64 * 1024,
        }
    }
}

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

/// A listening socket, and how connections to it are protected.
pub struct Listener {
    socket: TcpListener,
    tls: Option<Arc<Tls>>,
}

/// Why a process can't listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("can't listen on {0}")]
    Socket(SocketAddr, #[source] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{0} is not a loopback address, and there HTTP needs TLS: set --tls-cert-file and --tls-key-file")]
    Plaintext(SocketAddr),
}

/// Binds a listening socket. Beyond loopback, nothing is ever served without TLS.
pub async fn listen(address: SocketAddr, tls: &TlsArgs) -> Result<Listener, ListenError> {
    let tls = Tls::from_args(tls)?.map(Arc::new);
    if tls.is_none() && !address.ip().is_loopback() {
        return Err(ListenError::Plaintext(address));
    }
    let socket = bind(address).await.map_err(|error| ListenError::Socket(address, error))?;
    Ok(Listener { socket, tls })
}

/// Binds a listening socket without TLS.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

impl Listener {
    /// Where it listens; the port is known here if 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self { socket, tls: None }
    }
}

/// Serves until `shutdown` is cancelled, then lets accepted requests finish for at most `grace`.
pub async fn serve(
    listener: impl Into<Listener>,
    router: Router,
    shutdown: CancellationToken,
    grace: Duration,
) -> io::Result<()> {
    serve_within(listener, router, shutdown, grace, ConnectionLimits::default()).await
}

/// The same with other bounds.
pub async fn serve_within(
    listener: impl Into<Listener>,
    router: Router,
    shutdown: CancellationToken,
    grace: Duration,
    limits: ConnectionLimits,
) -> io::Result<()> {
    let listener = listener.into();
    let router = if listener.tls.is_some() { router.layer(over_tls_only()) } else { router };
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let (stream, place) = tokio::select! {
            accepted = accept(&listener.socket, &places) => accepted,
            () = shutdown.cancelled() => break,
        };
        let acceptor = listener.tls.as_ref().map(|tls| tls.acceptor());
        connections.spawn(serve_stream(stream, acceptor, router.clone(), shutdown.clone(), limits, place));
        // The ends of connections are collected as new ones come, so that they do not pile up.
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let ended = timeout(grace, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(grace_seconds = grace.as_secs(), "requests were still running when the grace ended");
    }
    Ok(())
}

/// What a listener with TLS says in every answer (RFC 6797): for two years, no browser comes back without.
fn over_tls_only() -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=63072000"))
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there always comes a place.
    let place = places.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The client is to blame, and the next one may do better.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection, after the handshake where the listener has TLS.
async fn serve_stream(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    shutdown: CancellationToken,
    limits: ConnectionLimits,
    _place: Option<OwnedSemaphorePermit>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = %error, "a connection keeps Nagle's algorithm");
    }
    let peer = stream.peer_addr().ok().map(|address| PeerAddress(address.ip()));
    let Some(acceptor) = acceptor else { return serve_requests(stream, router, peer, shutdown, limits).await };
    match timeout(limits.header_timeout, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => serve_requests(stream, router, peer, shutdown, limits).await,
        Ok(Err(error)) => tracing::debug!(error = %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Serves requests to the end of the connection; when the process is to stop, to the end of the request that it is at.
async fn serve_requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    peer: Option<PeerAddress>,
    shutdown: CancellationToken,
    limits: ConnectionLimits,
) {
    let service = TowerToHyperService::new(router.map_request(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        peer.map(|peer| request.extensions_mut().insert(peer));
        address::normalize(&mut request);
        request
    }));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.buffer_bytes_max)
        .serve_connection(TokioIo::new(Impatient::new(stream, limits.write_timeout)), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::trace!(error = %error, "a connection broke off");
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
