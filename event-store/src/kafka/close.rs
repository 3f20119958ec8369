//! Closing consumers.

use tokio::sync::oneshot;

/// Drops a consumer, or what holds one, on a thread of its own: closing talks to the broker, and may never end without one. It
/// would hold up whoever drops it: the next consumer, what was read with this one, the end of the process.
///
/// The answer is ready once it is closed. If no thread is to be had, it is closed here, and the answer is an error.
pub fn close_aside<T: Send + 'static>(consumer: T) -> oneshot::Receiver<()> {
    let (closed, closing) = oneshot::channel();
    let close = move || {
        drop(consumer);
        // Nobody may be waiting any more.
        closed.send(()).ok();
    };
    if let Err(error) = std::thread::Builder::new().name("close-consumer".to_owned()).spawn(close) {
        tracing::warn!(error = &error as &dyn std::error::Error, "no thread to close a consumer on");
    }
    closing
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    /// What ends only once somebody answers.
    struct Stuck(mpsc::Receiver<()>);

    impl Drop for Stuck {
        fn drop(&mut self) {
            self.0.recv().expect("an answer");
        }
    }

    #[tokio::test]
    async fn what_can_not_be_closed_holds_up_nobody() {
        let (broker, answer) = mpsc::channel();
        let mut closing = close_aside(Stuck(answer));
        assert_eq!(closing.try_recv(), Err(TryRecvError::Empty));
        broker.send(()).unwrap();
        closing.await.unwrap();
    }
}
