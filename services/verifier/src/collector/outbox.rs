//! Sends readings of all collections of a process, grouped.

use cdflow_bus::Bus;
use cdflow_protocol::{
    AggregateKind,
    v1::{Readings, Signal, VerificationSignal, verification_signal},
};
use prost::Message as _;
use tokio::sync::mpsc;

/// Readings that may wait for a publish in flight. More are dropped: totals are read again at the next tick.
const WAITING: usize = 1_024;

/// Largest group: with a hundred instances each it is far below the largest message.
const GROUP: usize = 64;

/// Version of the payload of signals to verifications.
const SIGNAL_VERSION: u32 = 1;

/// Where collections put their readings. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox(mpsc::Sender<Signal>);

/// The other end: see [`Postman::run`].
#[derive(Debug)]
pub struct Postman(mpsc::Receiver<Signal>);

/// An outbox, and what empties it.
pub fn outbox() -> (Outbox, Postman) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Outbox(sender), Postman(receiver))
}

impl Outbox {
    /// Never waits: when nothing can be sent, readings are dropped and said to be.
    pub fn put(&self, verification_id: &str, traceparent: &str, readings: Readings) {
        let id = format!("{}.{}", readings.task_id, readings.time_ms);
        let payload = VerificationSignal { kind: Some(verification_signal::Kind::Readings(readings)) };
        let signal = Signal {
            id,
            aggregate_id: verification_id.to_owned(),
            payload: payload.encode_to_vec(),
            traceparent: traceparent.to_owned(),
            version: SIGNAL_VERSION,
        };
        if self.0.try_send(signal).is_err() {
            tracing::warn!(verification = verification_id, "readings dropped: the bus does not take them fast enough");
        }
    }
}

impl Postman {
    /// Sends what is put until every [`Outbox`] is gone: what piles up while one message is on its way goes into the
    /// next.
    pub async fn run(mut self, bus: Bus) {
        let mut group = Vec::new();
        while self.0.recv_many(&mut group, GROUP).await > 0 {
            let count = group.len();
            if let Err(error) = bus.send_signals(AggregateKind::Verification, std::mem::take(&mut group)).await {
                tracing::warn!(%error, count, "readings dropped: the bus did not take them");
            }
        }
    }
}
