//! A connection whose other end takes nothing is broken off: it would hold its place, its buffers and the end of the process
//! for as long as it likes.
//!
//! One that we end ourselves is closed slowly (RFC 9112, section 9.6): were it closed while bytes still arrive, such as the
//! rest of a head that is too large, the other end's system would drop the answer that says so.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long an ended connection is listened to at most, and for how many bytes.
const LINGERING: Duration = Duration::from_secs(1);
const LINGERING_BYTES_MAX: usize = 1024 * 1024;

/// A stream whose writes fail once the other end has taken nothing for too long.
pub(crate) struct Impatient<S> {
    stream: S,
    patience: Duration,
    /// Runs while a write waits.
    deadline: Pin<Box<Sleep>>,
    waits: bool,
    /// After we have said that nothing more comes: how many bytes of the other end are still dropped.
    lingers_for: Option<usize>,
}

impl<S> Impatient<S> {
    pub(crate) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, deadline: Box::pin(sleep(patience)), waits: false, lingers_for: None }
    }

    /// Lets an outcome pass; one that waits too long becomes an error.
    fn bound<T>(&mut self, outcome: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waits = false;
            return outcome;
        }
        if !self.waits {
            self.waits = true;
            self.deadline.as_mut().reset(Instant::now() + self.patience);
        }
        self.deadline.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> Impatient<S> {
    /// Drops what still comes, until the other end is done or enough has come.
    fn linger(&mut self, mut bytes_left: usize, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 4 * 1024];
        while bytes_left > 0 {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    bytes_left = bytes_left.saturating_sub(buffer.filled().len());
                    self.lingers_for = Some(bytes_left);
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return self.deadline.as_mut().poll(context).map(Ok),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bound(outcome, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bound(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.bound(outcome, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(bytes_left) = self.lingers_for {
            return self.linger(bytes_left, context);
        }
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        ready!(self.bound(outcome, context))?;
        self.lingers_for = Some(LINGERING_BYTES_MAX);
        self.deadline.as_mut().reset(Instant::now() + LINGERING);
        self.linger(LINGERING_BYTES_MAX, context)
    }
}
