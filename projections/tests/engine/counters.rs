//! What the engine counted, by read model; tests that ask use read models with names of their own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

type Counted = Mutex<HashMap<(String, String), Arc<AtomicU64>>>;

static COUNTED: LazyLock<Counted> = LazyLock::new(Mutex::default);

/// Counts from now on.
pub fn install() {
    // Fails when another test has done so.
    drop(metrics::set_global_recorder(Counters));
}

/// The sum over all partitions.
pub fn of(name: &str, read_model: &str) -> u64 {
    let key = (name.to_owned(), read_model.to_owned());
    COUNTED.lock().unwrap().get(&key).map_or(0, |counter| counter.load(Ordering::Relaxed))
}

struct Counters;

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let read_model = key.labels().find(|label| label.key() == "read_model").map_or("", |label| label.value());
        let place = (key.name().to_owned(), read_model.to_owned());
        Counter::from_arc(COUNTED.lock().unwrap().entry(place).or_default().clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
