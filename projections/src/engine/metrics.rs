//! What the engine counts. Labels are names of read models and numbers of partitions, never ids.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::{counter, gauge, histogram};
use nexus_event_store::SealedEvent;

/// The figures of one partition.
#[derive(Clone)]
pub(crate) struct Gauges {
    read_model: &'static str,
    partition: String,
}

impl Gauges {
    pub(crate) fn new(read_model: &'static str, partition: i32) -> Self {
        Self { read_model, partition: partition.to_string() }
    }

    pub(crate) fn applied(&self, events: usize, took: Duration) {
        counter!("projection_applied_total", "read_model" => self.read_model, "partition" => self.partition.clone())
            .increment(events as u64);
        histogram!("projection_batch_size", "read_model" => self.read_model).record(events as f64);
        histogram!("projection_batch_seconds", "read_model" => self.read_model).record(took.as_secs_f64());
    }

    pub(crate) fn duplicates(&self, records: u64) {
        self.count("projection_duplicates_total", records);
    }

    pub(crate) fn gaps_filled(&self, events: usize) {
        self.count("projection_gaps_filled_total", events as u64);
    }

    pub(crate) fn unreadable_record(&self) {
        self.count("projection_unreadable_records_total", 1);
    }

    pub(crate) fn topic_changed(&self) {
        self.count("projection_topic_changes_total", 1);
    }

    pub(crate) fn standing_still(&self) {
        self.count("projection_gap_waits_total", 1);
    }

    pub(crate) fn retried(&self) {
        self.count("projection_batch_retries_total", 1);
    }

    pub(crate) fn lost(&self) {
        self.count("projection_ownership_lost_total", 1);
    }

    pub(crate) fn parked(&self, events: i64) {
        self.set("projection_parked", events as f64);
    }

    pub(crate) fn lag(&self, events: i64, behind: Duration) {
        self.set("projection_lag_events", events as f64);
        self.set("projection_lag_seconds", behind.as_secs_f64());
    }

    /// The partition is another's business now: what was last known of it must not stay on the dashboard.
    pub(crate) fn given_up(&self) {
        self.lag(0, Duration::ZERO);
        self.parked(0);
    }

    fn count(&self, name: &'static str, by: u64) {
        counter!(name, "read_model" => self.read_model, "partition" => self.partition.clone()).increment(by);
    }

    fn set(&self, name: &'static str, value: f64) {
        gauge!(name, "read_model" => self.read_model, "partition" => self.partition.clone()).set(value);
    }
}

/// A consumer had to be rebuilt.
pub(crate) fn rebuilt(read_model: &'static str, reason: &'static str) {
    counter!("projection_consumer_rebuilds_total", "read_model" => read_model, "reason" => reason).increment(1);
}

/// Where a partition stands, shared between its task and the watch.
#[derive(Default)]
pub(crate) struct Progress {
    next_offset: AtomicI64,
    position: AtomicI64,
    recorded_at_ms: AtomicI64,
    waiting: AtomicBool,
}

impl Progress {
    pub(crate) fn new(position: i64, next_offset: i64) -> Self {
        let progress = Self::default();
        progress.position.store(position, Ordering::Relaxed);
        progress.next_offset.store(next_offset, Ordering::Relaxed);
        progress
    }

    pub(crate) fn applied(&self, position: i64, recorded_at: Option<DateTime<Utc>>) {
        self.position.store(position, Ordering::Relaxed);
        if let Some(at) = recorded_at {
            self.recorded_at_ms.store(at.timestamp_millis(), Ordering::Relaxed);
        }
    }

    /// The offset after the last record whose events are applied.
    pub(crate) fn read_until(&self, next_offset: i64) {
        self.next_offset.store(next_offset, Ordering::Relaxed);
    }

    /// Whether the task waits for records, rather than for something else.
    pub(crate) fn waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset.load(Ordering::Relaxed)
    }

    pub(crate) fn position(&self) -> i64 {
        self.position.load(Ordering::Relaxed)
    }

    /// How old the last applied event is, or zero when nothing is behind it.
    pub(crate) fn behind(&self, lag: i64) -> Duration {
        let recorded_at = self.recorded_at_ms.load(Ordering::Relaxed);
        if lag == 0 || recorded_at == 0 {
            return Duration::ZERO;
        }
        Duration::from_millis(u64::try_from(Utc::now().timestamp_millis() - recorded_at).unwrap_or(0))
    }
}

/// A batch shows up in at most so many traces.
const TRACED_EVENTS_MAX: usize = 64;

/// Spans in the traces of the requests that caused a batch's events. They last until they are dropped.
pub(crate) fn trace_events(read_model: &'static str, events: &[SealedEvent]) -> Vec<tracing::Span> {
    let traced = events.iter().filter_map(|event| Some((event, event.header.traceparent.as_deref()?)));
    let span = |(event, traceparent): (&SealedEvent, &str)| {
        let span = tracing::info_span!(
            parent: None,
            "project",
            read_model,
            event.r#type = event.header.event_type,
            partition = event.partition,
            position = event.position
        );
        nexus_web::telemetry::set_parent(&span, traceparent);
        span
    };
    traced.take(TRACED_EVENTS_MAX).map(span).collect()
}
