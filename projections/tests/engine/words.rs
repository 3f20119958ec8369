//! What the engine said in its log, by read model; tests that ask use read models with names of their own.

use std::fmt::Debug;
use std::sync::{LazyLock, Mutex};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

static SAID: LazyLock<Mutex<Vec<Words>>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Words {
    read_model: String,
    message: String,
}

/// Listens from now on, and shows what `RUST_LOG` asks for.
pub fn listen() {
    let shown = tracing_subscriber::fmt::layer()
        .with_test_writer()
        .with_filter(tracing_subscriber::EnvFilter::from_default_env());
    // Fails when another test has done so.
    drop(tracing_subscriber::registry().with(shown).with(Ear.with_filter(LevelFilter::WARN)).try_init());
}

/// Whether a warning or an error about a read model held these words.
pub fn said(read_model: &str, words: &str) -> bool {
    SAID.lock().unwrap().iter().any(|said| said.read_model == read_model && said.message.contains(words))
}

struct Ear;

impl<S: Subscriber> Layer<S> for Ear {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        SAID.lock().unwrap().push(words);
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "read_model" {
            value.clone_into(&mut self.read_model);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}
