//! How a process learns that it should stop.

use tokio::signal::unix::{Signal, SignalKind, signal as listen};
use tokio_util::sync::CancellationToken;

/// Waits for SIGTERM or SIGINT.
pub async fn signal() {
    tokio::select! {
        () = received(SignalKind::terminate()) => tracing::info!(signal = "SIGTERM", "asked to stop"),
        () = received(SignalKind::interrupt()) => tracing::info!(signal = "SIGINT", "asked to stop"),
    }
}

/// A token that is cancelled by the first SIGTERM or SIGINT. The listening task ends with it or with the process.
pub fn on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = signal() => cancelled.cancel(),
            () = cancelled.cancelled() => {}
        }
    });
    token
}

async fn received(kind: SignalKind) {
    match listen(kind) {
        Ok(mut stream) => drop(Signal::recv(&mut stream).await),
        Err(error) => {
            tracing::error!(error = %error, "a signal handler could not be installed");
            std::future::pending::<()>().await;
        }
    }
}
