//! A collector that takes connections and never answers: work goes on, and the process ends.

use std::{net::TcpListener, time::Duration};

use cdflow_telemetry::{
    TelemetryOptions, init,
    spans::{FinishedSpan, SpanKind, emit},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_that_nobody_takes_are_dropped_and_hold_up_nothing() {
    let collector = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", collector.local_addr().expect("bound"));
    let telemetry = init("test", &TelemetryOptions { otlp_endpoint: Some(endpoint), ..TelemetryOptions::default() })
        .expect("set up");
    // Many times what the queue of the exporter holds.
    let work = tokio::task::spawn_blocking(|| {
        for number in 1..=50_000_u64 {
            emit(FinishedSpan {
                service: "test",
                kind: SpanKind::Internal,
                trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
                span_id: format!("{number:016x}"),
                parent_span_id: String::new(),
                name: "step".into(),
                start_ms: 1_000,
                end_ms: 2_000,
                attributes: Vec::new(),
                error: None,
            });
            drop(tracing::info_span!(target: "cdflow_test", "task"));
        }
        drop(telemetry);
    });
    // Only a bound: an export that is waited for lasts ten seconds, and there would be hundreds.
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("nothing waits for the collector").expect("done");
}
