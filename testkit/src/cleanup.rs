//! Async work in a `drop`.

/// Runs `work` to its end on a thread of its own: a test's runtime may already be shutting down.
pub fn block_on_thread<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
    let cleaning = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(work());
    });
    // What could not be cleaned up lies on a server that is thrown away.
    cleaning.join().ok();
}
