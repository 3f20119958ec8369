//! What a process says about itself: logs, traces, metrics.
//!
//! A trace id exists whether or not traces are exported, so that one `traceparent` leads from a request through Kafka to
//! the read models; see [`trace`].

mod metrics_registry;
mod panics;
mod trace;

pub use metrics_registry::{metrics_handle, render_metrics};
pub(crate) use trace::record_trace_id;
pub use trace::{current_trace_id, current_traceparent, set_parent};

use anyhow::Context;
use clap::ValueEnum;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// The settings that every service has.
#[derive(Clone, Debug, clap::Args)]
pub struct TelemetryArgs {
    /// How log lines look.
    #[arg(long, env = "NEXUS_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
    /// What is logged, in the syntax of RUST_LOG.
    #[arg(long, env = "NEXUS_LOG_FILTER", default_value = "info", value_parser = parse_filter)]
    pub log_filter: String,
    /// Where traces go (OTLP over HTTP, e.g. http://127.0.0.1:4318). Without it they stay in the process.
    #[arg(long, env = "NEXUS_OTLP_ENDPOINT", value_parser = parse_endpoint)]
    pub otlp_endpoint: Option<String>,
}

/// The look of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For reading in a terminal.
    Human,
}

/// Keeps telemetry going. Dropped at the end of `main`, it sends what is still buffered.
#[must_use = "telemetry ends when the guard is dropped"]
pub struct Guard {
    tracer_provider: SdkTracerProvider,
    _upkeep: metrics_registry::Upkeep,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.tracer_provider.shutdown() {
            tracing::debug!(error = %error, "the last traces were not sent");
        }
    }
}

/// Installs logs, traces, metrics and the panic hook. Called once, first thing in `main`; as every service does so, it is
/// also where core dumps are turned off ([`crate::harden`]).
pub fn init(service: &'static str, args: &TelemetryArgs) -> anyhow::Result<Guard> {
    crate::harden()?;
    let tracer_provider = trace::provider(service, args.otlp_endpoint.as_deref())?;
    let filter = EnvFilter::try_new(&args.log_filter).context("the log filter cannot be read")?;
    Registry::default()
        .with(trace::layer(&tracer_provider))
        .with(log_lines(args.log_format).with_filter(filter))
        .try_init()
        .context("telemetry was installed before")?;
    panics::install_hook();
    let upkeep = metrics_registry::describe(service);
    tracing::info!(service, version = env!("CARGO_PKG_VERSION"), "starting");
    Ok(Guard { tracer_provider, _upkeep: upkeep })
}

fn log_lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    match format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Human => fmt::layer().boxed(),
    }
}

fn parse_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn parse_endpoint(text: &str) -> Result<String, String> {
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    if is_url { Ok(text.to_owned()) } else { Err("expected an http or https URL".to_owned()) }
}
