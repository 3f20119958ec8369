//! A network that can be cut: a TCP proxy that does as the test tells it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const BUFFER_SIZE: usize = 16 * 1024;

/// Forwards connections to an address, until told otherwise. Stops when dropped.
pub struct ChaosProxy {
    address: SocketAddr,
    faults: watch::Sender<Faults>,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug, Default)]
struct Faults {
    refuse: bool,
    /// Bytes are taken and go nowhere: the other side looks alive and says nothing.
    hang: bool,
    delay: Duration,
    /// Cancelled to break the connections that are open now.
    connections: CancellationToken,
}

impl ChaosProxy {
    /// Listens on a free port and forwards to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (faults, seen) = watch::channel(Faults::default());
        let task = tokio::spawn(accept(listener, target, seen));
        Self { address, faults, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks every open connection; new ones are forwarded.
    pub fn cut(&self) {
        self.faults.send_modify(|faults| {
            faults.connections.cancel();
            faults.connections = CancellationToken::new();
        });
    }

    /// Breaks every open connection and takes no new one.
    pub fn refuse(&self) {
        self.faults.send_modify(|faults| faults.refuse = true);
        self.cut();
    }

    /// Swallows all bytes in both directions, as a network that lost its route does.
    pub fn hang(&self) {
        self.faults.send_modify(|faults| faults.hang = true);
    }

    /// Delays each piece of data by this long.
    pub fn delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Forwards as if nothing had been. Connections that hung are broken: what they swallowed is lost.
    pub fn heal(&self) {
        let hung = self.faults.borrow().hang;
        self.faults.send_modify(|faults| {
            (faults.refuse, faults.hang, faults.delay) = (false, false, Duration::ZERO);
        });
        if hung {
            self.cut();
        }
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.faults.borrow().connections.cancel();
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, faults: watch::Receiver<Faults>) {
    while let Ok((client, _)) = listener.accept().await {
        // The proxy itself can't be told to stop listening without losing its port: it hangs up at once instead.
        if !faults.borrow().refuse
            && let Ok(server) = TcpStream::connect(target).await
        {
            connect(client, server, &faults);
        }
    }
}

fn connect(client: TcpStream, server: TcpStream, faults: &watch::Receiver<Faults>) {
    let cut = faults.borrow().connections.clone();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    for (from, to) in [(from_client, to_server), (from_server, to_client)] {
        let (cut, faults) = (cut.clone(), faults.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                // Its end closes one direction; the other ends when the peer answers in kind.
                _ = copy(from, to, faults) => {}
            }
        });
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, faults: watch::Receiver<Faults>) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        let (hang, delay) = {
            let faults = faults.borrow();
            (faults.hang, faults.delay)
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if !hang {
            to.write_all(&buffer[..length]).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    tokio::io::copy(&mut reader, &mut writer).await.ok();
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<u8> {
        stream.write_all(b"?").await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn it_forwards_cuts_refuses_and_heals() {
        let proxy = ChaosProxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), b'?');
        proxy.cut();
        assert!(ask(&mut stream).await.is_err());
        proxy.refuse();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(ask(&mut stream).await.is_err());
        proxy.heal();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), b'?');
    }

    #[tokio::test]
    async fn a_hanging_network_says_nothing() {
        let proxy = ChaosProxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.hang();
        assert!(tokio::time::timeout(Duration::from_millis(100), ask(&mut stream)).await.is_err());
        proxy.heal();
        assert!(ask(&mut stream).await.is_err());
    }

    #[tokio::test]
    async fn a_slow_network_delays_both_ways() {
        let proxy = ChaosProxy::start(echo().await).await;
        proxy.delay(Duration::from_millis(50));
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let started = std::time::Instant::now();
        assert_eq!(ask(&mut stream).await.unwrap(), b'?');
        assert!(started.elapsed() >= Duration::from_millis(100));
    }
}
