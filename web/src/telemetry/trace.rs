//! Trace identity: taken over from whoever called, handed on to whoever comes next.
//!
//! Without an exporter, spans get ids and nothing is recorded, which costs next to nothing. Only `traceparent` crosses our
//! borders: `tracestate` and baggage could carry anything and are neither read nor sent.

use anyhow::Context as _;
use opentelemetry::{
    KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{TraceContextExt, TraceId, TracerProvider},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};
use tracing::{Level, Span};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

/// A W3C `traceparent` is exactly this long in version 00.
const TRACEPARENT_BYTES: usize = 55;

/// The current span as a W3C `traceparent`, if there is one. Goes into the log, into Kafka and into outgoing requests.
pub fn current_traceparent() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let span_context = span.span_context();
    span_context.is_valid().then(|| {
        let flags = span_context.trace_flags().to_u8();
        format!("00-{}-{}-{flags:02x}", span_context.trace_id(), span_context.span_id())
    })
}

/// The id of the current trace.
pub fn current_trace_id() -> Option<String> {
    trace_id_of(&Span::current()).map(|id| id.to_string())
}

/// Makes `span` a child of the span that `traceparent` names. Must come before the span is entered; a text that is no
/// `traceparent` changes nothing.
pub fn set_parent(span: &Span, traceparent: &str) {
    if traceparent.len() != TRACEPARENT_BYTES {
        return;
    }
    let context = TraceContextPropagator::new().extract(&Traceparent(traceparent));
    if context.span().span_context().is_valid() && span.set_parent(context).is_err() {
        tracing::debug!("a span was already started when its parent became known");
    }
}

/// Writes the trace id into the span's `trace.id`, so that log lines carry it.
pub(crate) fn record_trace_id(span: &Span) {
    if let Some(id) = trace_id_of(span) {
        span.record("trace.id", tracing::field::display(id));
    }
}

fn trace_id_of(span: &Span) -> Option<TraceId> {
    let id = span.context().span().span_context().trace_id();
    (id != TraceId::INVALID).then_some(id)
}

/// Makes span ids, and sends spans when there is somewhere to send them.
pub(super) fn provider(service: &'static str, otlp_endpoint: Option<&str>) -> anyhow::Result<SdkTracerProvider> {
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = otlp_endpoint else {
        return Ok(builder.with_sampler(Sampler::AlwaysOff).build());
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(traces_url(endpoint))
        .build()
        .context("the OTLP exporter could not be built")?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOn));
    Ok(builder.with_sampler(sampler).with_batch_exporter(exporter).build())
}

/// Gives spans their ids, independent of what is logged. Events stay out of traces: they are the log's.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let layer: OpenTelemetryLayer<S, SdkTracer> = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("nexus"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false);
    layer.with_filter(filter_fn(|metadata| metadata.is_span() && *metadata.level() <= Level::INFO))
}

fn traces_url(endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") }
}

struct Traceparent<'a>(&'a str);

impl Extractor for Traceparent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}
