//! What of a request's body nobody has read when its answer is there.
//!
//! A server that closes a connection on which bytes are still arriving makes the client's system drop the answer (RFC 9112,
//! section 9.6): whoever sends too much would see a broken connection and not be told why. So a bounded part of what is left
//! is read and dropped first.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::header,
    middleware::Next,
    response::Response,
};
use futures::StreamExt;
use hyper::body::{Frame, SizeHint};
use tokio::{sync::oneshot, time::timeout};

/// How much is read for the sake of an answer, in bytes. Whoever sends more may find the connection broken.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers, and holds the answer back until the rest of the body is out of the way.
pub(crate) async fn drain(request: Request, next: Next) -> Response {
    // Who asks first sends nothing unless told to go on, and reading is what tells it.
    if request.headers().contains_key(header::EXPECT) || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (back, left) = oneshot::channel();
    let response = next.run(request.map(|body| Body::new(Lent { body, back: Some(back) }))).await;
    drop(timeout(PATIENCE, skip(left)).await);
    response
}

async fn skip(left: oneshot::Receiver<Body>) {
    let Ok(rest) = left.await else { return };
    let mut rest = rest.into_data_stream();
    let mut seen = 0;
    while seen < BYTES_MAX
        && let Some(Ok(bytes)) = rest.next().await
    {
        seen += bytes.len();
    }
}

/// A body that comes back when whoever had it is done without having read all of it.
struct Lent {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(back) = self.back.take()
            && !self.body.is_end_stream()
        {
            // Nobody waits for it if the request was dropped.
            drop(back.send(std::mem::take(&mut self.body)));
        }
    }
}
