//! The process's metrics, kept in memory and rendered for Prometheus on request.

use std::{
    fs,
    sync::{
        OnceLock,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// How often histograms are folded together. Without it they grow for as long as nobody asks for them.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Seconds: from a cache hit to a request that was given up.
const SECONDS_BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Everything else that is measured: sizes of batches, counts of rows, bytes.
const SIZE_BUCKETS: [f64; 12] =
    [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 16_777_216.0];

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
static STARTED: OnceLock<Instant> = OnceLock::new();

/// The registry of this process; installed at the first call.
pub fn metrics_handle() -> &'static PrometheusHandle {
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&SIZE_BUCKETS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
            })
            .expect("the bucket lists are not empty")
            .build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed; /metrics stays empty");
        }
        handle
    })
}

/// All metrics in Prometheus' text format, those of the process itself included.
pub fn render_metrics() -> String {
    let handle = metrics_handle();
    let uptime = STARTED.get_or_init(Instant::now).elapsed();
    metrics::gauge!("process_uptime_seconds").set(uptime.as_secs_f64());
    if let Some(bytes) = resident_bytes() {
        metrics::gauge!("process_resident_memory_bytes").set(bytes);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        metrics::gauge!("process_open_fds").set(descriptors.count() as f64);
    }
    handle.run_upkeep();
    handle.render()
}

/// Folds histograms together until dropped.
pub(super) struct Upkeep {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Installs the registry and says which build this is.
pub(super) fn describe(service: &'static str) -> Upkeep {
    STARTED.get_or_init(Instant::now);
    let handle = metrics_handle();
    metrics::gauge!("nexus_build_info", "service" => service, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    metrics::gauge!("process_start_time_seconds").set(started.as_secs_f64());
    let (stop, stopped) = mpsc::channel();
    let upkeep = move || {
        while stopped.recv_timeout(UPKEEP_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            handle.run_upkeep();
        }
    };
    let thread = thread::Builder::new().name("metrics-upkeep".to_owned()).spawn(upkeep);
    Upkeep { stop: Some(stop), thread: thread.ok() }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::debug!("the upkeep of the metrics had ended early");
        }
    }
}

/// Second field of `statm`, in pages of 4 KiB as on every platform that we build for.
fn resident_bytes() -> Option<f64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096.0)
}
