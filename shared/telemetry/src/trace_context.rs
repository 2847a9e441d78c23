//! W3C trace context (<https://www.w3.org/TR/trace-context/>) between spans here and messages on the bus.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Makes a span a child of the sender of a message; an empty or malformed `traceparent` changes nothing.
pub fn adopt(span: &Span, traceparent: &str) {
    if let Some(parent) = parse(traceparent) {
        // Fails only when no OpenTelemetry layer listens, and then there is nothing to connect.
        let _ = span.set_parent(parent);
    }
}

/// The `traceparent` header for what the current span sends; empty when it is not recorded.
pub fn traceparent(span: &Span) -> String {
    let context = span.context();
    let span = context.span();
    let found = span.span_context();
    if !found.is_valid() {
        return String::new();
    }
    format!("00-{}-{}-{:02x}", found.trace_id(), found.span_id(), found.trace_flags().to_u8())
}

pub(crate) fn parse(traceparent: &str) -> Option<Context> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version.len() != 2 || version == "ff" || trace.len() != 32 || span.len() != 16 {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then(|| Context::new().with_remote_span_context(context))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_headers_are_ignored() {
        for text in ["", "00", "00-x-y-z", "00-00000000000000000000000000000000-0000000000000000-01", "ff-1-2-3"] {
            assert!(parse(text).is_none(), "{text}");
        }
        assert!(parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").is_some());
    }
}
