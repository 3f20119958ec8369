//! A link between two parts: a TCP proxy on loopback that carries bytes, and on demand carries them badly.
//!
//! It knows nothing of what it carries; TLS passes through it. What its mode is decides for every connection at once, those
//! that are open included.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

const CHUNK_BYTES: usize = 16 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How a link carries bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Resets what is open and whatever is opened.
    Cut,
    /// Each piece comes so many milliseconds late.
    Delay(u64),
    /// Open, and silent.
    BlackHole,
    /// Resets every connection after so many more bytes, in both directions together.
    CutAfter(usize),
}

/// A running link; it ends when dropped.
pub struct Link {
    pub name: String,
    pub port: u16,
    mode: watch::Sender<Mode>,
    accepting: AbortHandle,
}

impl Link {
    /// Listens on `port` and carries to `target`, both on 127.0.0.1.
    pub async fn start(name: &str, port: u16, target: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.with_context(|| format!("the link {name} can't listen on port {port}"))?;
        let port = listener.local_addr()?.port();
        let (mode, watched) = watch::channel(Mode::Pass);
        let accepting = tokio::spawn(accept(listener, target, watched)).abort_handle();
        Ok(Self { name: name.to_owned(), port, mode, accepting })
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: u16, mode: watch::Receiver<Mode>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Out of descriptors, say: the next may come in again.
                let Ok((client, _)) = accepted else { continue };
                connections.spawn(carry(client, target, mode.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, from its beginning to its end.
async fn carry(mut client: TcpStream, target: u16, mut mode: watch::Receiver<Mode>) {
    let server = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(("127.0.0.1", target))).await;
    let Ok(Ok(mut server)) = server else { return reset(&client) };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let budget = Budget::default();
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = pump(from_client, to_server, mode.clone(), &budget);
    let down = pump(from_server, to_client, mode.clone(), &budget);
    let in_order = tokio::select! {
        carried = futures::future::try_join(up, down) => carried.is_ok(),
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => false,
    };
    if !in_order {
        reset(&client);
        reset(&server);
    }
}

/// The connection ends with a reset when it is dropped.
fn reset(stream: &TcpStream) {
    stream.set_zero_linger().ok();
}

/// Carries one direction to its end; an error ends both.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut mode: watch::Receiver<Mode>,
    budget: &Budget,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        speaking(&mut mode).await?;
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let now = speaking(&mut mode).await?;
        if let Mode::Delay(milliseconds) = now {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
        let passing = budget.take(now, count);
        to.write_all(&buffer[..passing]).await?;
        if passing < count {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    }
}

/// Waits while the link is a black hole.
async fn speaking(mode: &mut watch::Receiver<Mode>) -> io::Result<Mode> {
    let speaks = mode.wait_for(|mode| *mode != Mode::BlackHole).await;
    Ok(*speaks.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))?)
}

/// How many bytes a connection may still carry, while it is to be cut after some.
#[derive(Default)]
struct Budget(Mutex<Option<usize>>);

impl Budget {
    /// How many of `count` bytes pass.
    fn take(&self, mode: Mode, count: usize) -> usize {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Mode::CutAfter(bytes) = mode else {
            *left = None;
            return count;
        };
        let before = left.unwrap_or(bytes);
        *left = Some(before.saturating_sub(count));
        before.min(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers what it hears.
    async fn echo() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await.ok();
                });
            }
        });
        port
    }

    async fn connected() -> (Link, TcpStream) {
        let link = Link::start("client>echo", 0, echo().await).await.unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", link.port)).await.unwrap();
        assert_eq!(said(&mut stream, b"hello").await.unwrap(), b"hello");
        (link, stream)
    }

    async fn said(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(text).await?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_cut_resets_what_is_open_and_what_is_opened() {
        let (link, mut stream) = connected().await;
        link.set(Mode::Cut);
        assert!(said(&mut stream, b"again").await.is_err());
        let mut second = TcpStream::connect(("127.0.0.1", link.port)).await.unwrap();
        assert!(said(&mut second, b"again").await.is_err());
        link.set(Mode::Pass);
        let mut third = TcpStream::connect(("127.0.0.1", link.port)).await.unwrap();
        assert_eq!(said(&mut third, b"again").await.unwrap(), b"again");
    }

    #[tokio::test]
    async fn a_black_hole_is_silent_and_loses_nothing() {
        let (link, mut stream) = connected().await;
        link.set(Mode::BlackHole);
        let answer = said(&mut stream, b"again");
        tokio::pin!(answer);
        assert!(tokio::time::timeout(Duration::from_millis(100), &mut answer).await.is_err());
        link.set(Mode::Pass);
        assert_eq!(answer.await.unwrap(), b"again");
    }

    #[tokio::test]
    async fn a_message_is_cut_after_so_many_bytes() {
        let (link, mut stream) = connected().await;
        link.set(Mode::CutAfter(7));
        stream.write_all(b"ab").await.unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.unwrap();
        // Two bytes there and two back: three are left.
        assert!(said(&mut stream, b"cdefgh").await.is_err());
    }

    #[tokio::test]
    async fn a_delay_delays() {
        let (link, mut stream) = connected().await;
        link.set(Mode::Delay(30));
        let started = std::time::Instant::now();
        assert_eq!(said(&mut stream, b"again").await.unwrap(), b"again");
        assert!(started.elapsed() >= Duration::from_millis(60));
    }
}
