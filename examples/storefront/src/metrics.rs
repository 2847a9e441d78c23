//! Prometheus metrics.

use std::time::{Duration, SystemTime};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    route: String,
    code: u16,
}

/// Requests by route and status, and how long they took.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    duration: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<Labels, Counter>::default();
        let duration = Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]);
        let started = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        started.set(since_epoch.as_secs_f64());
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register("http_request_duration_seconds", "Time to answer", duration.clone());
        registry.register("process_start_time_seconds", "Start of the process in Unix seconds", started);
        Self { registry, requests, duration }
    }

    pub(crate) fn count(&self, route: &str, code: u16, took: Duration) {
        self.requests.get_or_create(&Labels { route: route.to_owned(), code }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// The text exposition format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
