//! Spans of things that outlive a process: runs, stages, steps.
//!
//! They are made when the thing has ended, from what the journal says, under ids that follow from the run. So a new
//! owner that sends one again sends the same span, and children can name their parent before it has ended.

use std::{
    cell::Cell,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, KeyValue, global,
    trace::{
        Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
        Tracer as _,
    },
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

pub use opentelemetry::trace::SpanKind;

use crate::cicd;

/// A span with its ids and times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedSpan {
    /// Whose span it is, for [`cicd::SERVICE`].
    pub service: &'static str,
    /// [`SpanKind::Server`] for a run, [`SpanKind::Internal`] for what it consists of.
    pub kind: SpanKind,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// 16 hexadecimal digits; empty for a root.
    pub parent_span_id: String,
    /// For example `deploy prod`.
    pub name: String,
    /// Unix milliseconds.
    pub start_ms: i64,
    /// Unix milliseconds.
    pub end_ms: i64,
    /// Names by OpenTelemetry's semantic conventions for CI/CD where they have one.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed, if it did.
    pub error: Option<Failure>,
}

/// What makes a span a failed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For `error.type`: one of few words.
    pub class: String,
    /// A sentence.
    pub message: String,
}

/// Hands a finished span to the exporter; ids that are not hexadecimal are dropped with a warning.
pub fn emit(span: FinishedSpan) {
    let (Ok(trace_id), Ok(span_id)) = (TraceId::from_hex(&span.trace_id), SpanId::from_hex(&span.span_id)) else {
        tracing::warn!(span = span.name, "a span with malformed ids was dropped");
        return;
    };
    let parent = SpanId::from_hex(&span.parent_span_id).unwrap_or(SpanId::INVALID);
    let context = if parent == SpanId::INVALID {
        Context::new()
    } else {
        let parent = SpanContext::new(trace_id, parent, TraceFlags::SAMPLED, true, TraceState::default());
        Context::new().with_remote_span_context(parent)
    };
    let builder =
        SpanBuilder::from_name(span.name).with_kind(span.kind).with_start_time(at(span.start_ms)).with_attributes(
            span.attributes
                .into_iter()
                .map(|(key, value)| KeyValue::new(key, value))
                .chain([KeyValue::new(cicd::SERVICE, span.service)]),
        );
    NEXT.set(Some((trace_id, span_id)));
    let mut made = global::tracer("cdflow").build_with_context(builder, &context);
    NEXT.set(None);
    if let Some(error) = span.error {
        made.set_attribute(KeyValue::new("error.type", error.class));
        made.set_status(Status::error(error.message));
    }
    made.end_with_timestamp(at(span.end_ms));
}

fn at(unix_ms: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0))
}

thread_local! {
    /// Ids for the span that [`emit`] is making on this thread.
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Random ids, except for spans of the journal.
#[derive(Debug, Default)]
pub(crate) struct JournalIds(RandomIdGenerator);

impl IdGenerator for JournalIds {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

    use super::*;

    #[test]
    fn a_span_of_the_journal_keeps_its_ids_and_times() {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_id_generator(JournalIds::default())
            .with_simple_exporter(exporter.clone())
            .build();
        global::set_tracer_provider(provider);
        let span = FinishedSpan {
            service: "orchestrator",
            kind: SpanKind::Server,
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
            span_id: "00f067aa0ba902b7".into(),
            parent_span_id: String::new(),
            name: "run 1".into(),
            start_ms: 1_000,
            end_ms: 2_500,
            attributes: vec![("cicd.pipeline.name", "storefront".into())],
            error: None,
        };
        emit(span.clone());
        emit(FinishedSpan { span_id: "00f067aa0ba902b8".into(), parent_span_id: span.span_id.clone(), ..span.clone() });
        let sent = exporter.get_finished_spans().expect("not poisoned");
        assert_eq!(sent.len(), 2);
        assert_eq!(sent[0].span_context.trace_id().to_string(), span.trace_id);
        assert_eq!(sent[0].span_context.span_id().to_string(), span.span_id);
        assert_eq!(sent[0].end_time.duration_since(sent[0].start_time).expect("forward").as_millis(), 1_500);
        assert_eq!(sent[1].parent_span_id.to_string(), span.span_id);
        assert_eq!(sent[1].span_context.trace_id(), sent[0].span_context.trace_id());
    }
}
