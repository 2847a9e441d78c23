//! Logs to standard error, spans to an OTLP collector.

use std::{io::IsTerminal as _, time::Duration};

use opentelemetry::{KeyValue, global, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, layer::SubscriberExt as _, registry::LookupSpan, util::SubscriberInitExt as _,
};

use crate::spans::JournalIds;

/// What a service tells its operators, and where.
#[derive(Debug, Clone, clap::Args)]
pub struct TelemetryOptions {
    /// What to log, as `tracing` directives: `info`, `cdflow_journal=debug,info`…
    #[arg(long, env = "CDFLOW_LOG", default_value = "info", global = true)]
    pub log: String,
    /// How log lines look on standard error.
    #[arg(long, env = "CDFLOW_LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
    /// OTLP/gRPC endpoint that gets traces, such as http://127.0.0.1:4317. No traces are sent without it.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", global = true)]
    pub otlp_endpoint: Option<String>,
}

impl Default for TelemetryOptions {
    fn default() -> Self {
        Self { log: "info".into(), log_format: LogFormat::Text, otlp_endpoint: None }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log directives do not parse.
    #[error("CDF-2101: `{directives}` is no log filter: {reason}. Example: cdflow_journal=debug,info")]
    Filter {
        /// What was given.
        directives: String,
        /// What the parser says.
        reason: String,
    },
    /// The endpoint cannot be used.
    #[error("CDF-2102: traces cannot be sent to {endpoint}: {reason}. Expected something like http://127.0.0.1:4317")]
    Exporter {
        /// What was given.
        endpoint: String,
        /// What the exporter says.
        reason: String,
    },
    /// It was set up before in this process.
    #[error("CDF-2103: logging is already set up in this process")]
    Twice,
}

/// How long the end of a process waits for a collector that does not answer.
const LAST_SPANS_WITHIN: Duration = Duration::from_secs(3);

/// Keeps the exporter running; sends what is left when dropped, and waits at most three seconds for that.
#[must_use = "spans are only sent while this lives"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown_with_timeout(LAST_SPANS_WITHIN)
        {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

/// Sets up logs and traces of this process.
///
/// # Errors
/// [`TelemetryError`]; nothing is set up then.
pub fn init(service: &str, options: &TelemetryOptions) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_new(&options.log)
        .map_err(|e| TelemetryError::Filter { directives: options.log.clone(), reason: e.to_string() })?;
    let provider = options.otlp_endpoint.as_deref().map(|endpoint| provider(service, endpoint)).transpose()?;
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match options.log_format {
        LogFormat::Text => lines.with_target(false).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().with_filter(filter).boxed(),
    };
    let spans = provider.as_ref().map(exported);
    tracing_subscriber::registry().with(lines).with(spans).try_init().map_err(|_| TelemetryError::Twice)?;
    if let Some(provider) = &provider {
        global::set_tracer_provider(provider.clone());
    }
    Ok(Telemetry { provider })
}

/// Our own spans, whatever is logged: those of libraries are of no use to who follows a run.
fn exported<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("cdflow"))
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(EnvFilter::new("off,cdflow=info"))
}

fn provider(service: &str, endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|e| TelemetryError::Exporter { endpoint: endpoint.to_owned(), reason: e.to_string() })?;
    let resource = Resource::builder()
        .with_attributes([
            KeyValue::new("service.name", service.to_owned()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .build();
    Ok(SdkTracerProvider::builder()
        .with_id_generator(JournalIds::default())
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build())
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::InMemorySpanExporter;

    use super::*;

    #[test]
    fn spans_of_every_service_are_exported_and_none_of_libraries() {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let subscriber = tracing_subscriber::registry().with(exported(&provider));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!(target: "cdflow_executor::executor", "task");
            tracing::info_span!(target: "cdflow_worker", "other");
            tracing::debug_span!(target: "cdflow_worker", "detail");
            tracing::info_span!(target: "hyper::proto", "read");
            tracing::info_span!(target: "http", "request");
        });
        let names: Vec<_> = exporter.get_finished_spans().expect("kept").into_iter().map(|span| span.name).collect();
        assert_eq!(names, ["task", "other"]);
    }
}
