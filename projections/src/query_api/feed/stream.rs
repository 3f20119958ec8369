//! One feed from its opening to its end.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use futures::future::BoxFuture;
use metrics::counter;
use nexus_auth::Caller;
use nexus_web::problem::Problem;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::FeedArgs;
use super::places::Place;

/// Events that wait for the client to read them; with the buffers of its connection, all that a feed holds.
const WAITING_MAX: usize = 32;
/// How long a client waits before it opens a feed again that broke off.
const RETRY: Duration = Duration::from_secs(2);

/// What a feed tells, in its own order.
pub(crate) trait Source: Send + 'static {
    /// Asks whether the caller may still see it, and tells what is new. A problem ends the feed.
    fn look<'a>(&'a mut self, out: &'a Out) -> BoxFuture<'a, Result<(), Problem>>;

    /// Waits until there may be something new.
    fn woken(&mut self) -> BoxFuture<'_, ()>;
}

/// An event on its way to the client.
pub(crate) struct FeedEvent(Event);

impl FeedEvent {
    /// An event whose id lets the client go on behind it.
    pub(crate) fn new(name: &'static str, id: String, data: &impl Serialize) -> Result<Self, Problem> {
        let event = Event::default().event(name).id(id).json_data(data);
        // The error may quote the data.
        event.map(Self).map_err(|_| Problem::internal())
    }

    /// The first event: from here on nothing is missed.
    pub(crate) fn ready(id: String) -> Self {
        Self(Event::default().event("ready").id(id).retry(RETRY).data("{}"))
    }

    fn end(reason: &'static str) -> Self {
        Self(Event::default().event("end").data(format!("{{\"reason\":\"{reason}\"}}")))
    }
}

/// Where a source tells its events.
pub(crate) struct Out {
    events: mpsc::Sender<FeedEvent>,
    stall: Duration,
}

impl Out {
    /// Hands an event on, and waits a while for a client that does not read.
    pub(crate) async fn send(&self, event: FeedEvent) -> Result<(), Problem> {
        self.events.send_timeout(event, self.stall).await.map_err(|_| Problem::overloaded())
    }
}

/// Says when the process is to stop: feeds would hold it up for ever.
#[derive(Clone)]
pub(crate) struct Stopping(pub(crate) CancellationToken);

impl<S: Sync> FromRequestParts<S> for Stopping {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_else(|| Self(CancellationToken::new())))
    }
}

/// A feed that is about to be opened.
pub(crate) struct Feed {
    pub(super) caller: Caller,
    pub(super) place: Place,
    pub(super) stopping: Stopping,
    pub(super) settings: FeedArgs,
}

impl Feed {
    /// The answer. What it tells is made by a task that ends when the client goes away.
    pub(crate) fn open(self, ready: FeedEvent, source: impl Source) -> Response {
        let (events, waiting) = mpsc::channel(WAITING_MAX);
        let heartbeat = KeepAlive::new().interval(self.settings.heartbeat()).text("heartbeat");
        tokio::spawn(self.run(ready, source, events).in_current_span());
        let told = futures::stream::unfold(waiting, |mut waiting| async {
            let event: FeedEvent = waiting.recv().await?;
            Some((Ok::<_, Infallible>(event.0), waiting))
        });
        // Neither a cache nor a proxy may keep any of it.
        let headers = [(header::CACHE_CONTROL.as_str(), "no-store"), ("x-accel-buffering", "no")];
        (headers, Sse::new(told).keep_alive(heartbeat)).into_response()
    }

    async fn run(self, ready: FeedEvent, mut source: impl Source, events: mpsc::Sender<FeedEvent>) {
        let out = Out { events: events.clone(), stall: self.settings.stall() };
        let reason = tokio::select! {
            problem = tell(ready, &mut source, &out, self.settings.recheck()) => reason_of(&problem),
            () = self.stopping.0.cancelled() => "stopping",
            () = until(self.caller.expires_at()) => "token-expired",
            () = events.closed() => "client-gone",
        };
        counter!("query_feeds_ended_total", "reason" => reason).increment(1);
        // A client that does not read is not told; it finds the feed ended.
        if events.try_send(FeedEvent::end(reason)).is_err() {
            tracing::debug!(reason, "a feed ended without a word");
        }
        drop(self.place);
    }
}

async fn tell(ready: FeedEvent, source: &mut impl Source, out: &Out, recheck: Duration) -> Problem {
    if let Err(problem) = out.send(ready).await {
        return problem;
    }
    loop {
        if let Err(problem) = source.look(out).await {
            return problem;
        }
        tokio::select! {
            () = source.woken() => {}
            () = sleep(recheck) => {}
        }
    }
}

/// What the client is told: not more than the same request would be now.
fn reason_of(problem: &Problem) -> &'static str {
    if problem.status().is_client_error() { "access-ended" } else { "unavailable" }
}

/// Until a token ends, in seconds since 1970. Looked at again and again: clocks are set.
async fn until(expires_at: i64) {
    const LOOK_MAX: Duration = Duration::from_secs(60);
    loop {
        let left = expires_at.saturating_mul(1_000).saturating_sub(Utc::now().timestamp_millis());
        match u64::try_from(left) {
            Ok(left) if left > 0 => sleep(Duration::from_millis(left).min(LOOK_MAX)).await,
            _ => return,
        }
    }
}
