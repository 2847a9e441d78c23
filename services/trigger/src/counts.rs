//! How many events came in, and what became of them.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::intake::Reading;

/// Counters since the start of this process, shown on `/metrics`.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    events: Family<Labels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

impl Counts {
    /// An event that was read from the stream.
    pub(crate) fn read(&self, reading: Reading) {
        self.count(match reading {
            Reading::Starts => "starts",
            Reading::Ignored => "ignored",
            Reading::Malformed => "malformed",
        });
    }

    /// An HTTP request that was turned away.
    pub(crate) fn refused(&self) {
        self.count("refused");
    }

    fn count(&self, outcome: &'static str) {
        self.events.get_or_create(&Labels { outcome }).inc();
    }

    /// In OpenMetrics text format.
    pub(crate) fn text(&self) -> String {
        let mut registry = Registry::default();
        registry.register(
            "cdflow_trigger_events",
            "CI events by what became of them: starts, ignored, malformed, or refused at the HTTP edge",
            self.events.clone(),
        );
        let mut text = String::new();
        match encode(&mut text, &registry) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n"),
        }
    }
}
