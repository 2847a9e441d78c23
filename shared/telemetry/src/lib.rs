//! Logs, traces, health and graceful stop, the same for every service.
//!
//! Nothing here decides anything: when the collector of traces is down, spans are dropped and work goes on. A killed
//! process loses the spans that it had not exported; spans of runs, stages and steps come from the journal and are sent
//! again by the next owner under the same ids (see [`spans`]).

mod allocator;
pub mod cicd;
pub mod health;
mod logs;
mod service;
pub mod spans;
mod stop;
mod trace_context;

pub use logs::{LogFormat, Telemetry, TelemetryError, TelemetryOptions, init};
pub use service::{ServiceOptions, instance_name};
pub use stop::stop_signal;
pub use trace_context::{adopt, traceparent};
