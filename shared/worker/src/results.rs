//! Results: what they look like, and how they are stored in groups.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::jetstream::AckKind;
use cdflow_bus::Bus;
use cdflow_protocol::{
    AggregateKind,
    v1::{
        ErrorClass, Fence, Outcome, RunSignal, Signal, TaskResult, VerificationSignal, run_signal, verification_signal,
    },
};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::held::Held;

/// Version of the payloads of signals sent from here.
const VERSION: u32 = 1;
/// Most results in one message.
const GROUP: usize = 1_000;

/// A result of work that went well.
pub fn succeeded(message: impl Into<String>) -> TaskResult {
    TaskResult { outcome: Outcome::Succeeded.into(), message: message.into(), ..Default::default() }
}

/// A result of work that failed; `message` says what happened, where, and what to do.
pub fn failed(class: ErrorClass, message: impl Into<String>) -> TaskResult {
    TaskResult {
        outcome: Outcome::Failed.into(),
        error_class: class.into(),
        message: message.into(),
        ..Default::default()
    }
}

/// Who hears of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    pub(crate) kind: AggregateKind,
    pub(crate) id: String,
    pub(crate) traceparent: String,
}

impl ReplyTo {
    /// `None` for an aggregate that takes no results.
    pub(crate) fn new(aggregate: &str, id: &str, traceparent: &str) -> Option<Self> {
        let kind = AggregateKind::from_token(aggregate)
            .filter(|kind| matches!(kind, AggregateKind::Run | AggregateKind::Verification))?;
        Some(Self { kind, id: id.into(), traceparent: traceparent.into() })
    }

    /// The signal that carries a result; its id names the task and the fence (rule 9).
    pub(crate) fn signal(&self, result: TaskResult) -> Signal {
        let Fence { incarnation, sequence, delivery } = result.fence.unwrap_or_default();
        let id = format!("result-{}-{incarnation}-{sequence}-{delivery}", result.task_id);
        let payload = match self.kind {
            AggregateKind::Verification => {
                VerificationSignal { kind: Some(verification_signal::Kind::TaskResult(result)) }.encode_to_vec()
            }
            _ => RunSignal { kind: Some(run_signal::Kind::TaskResult(result)) }.encode_to_vec(),
        };
        Signal { id, aggregate_id: self.id.clone(), payload, traceparent: self.traceparent.clone(), version: VERSION }
    }
}

/// A result on its way.
struct Report {
    task_id: String,
    signal: Signal,
    /// Given back when the result is stored.
    _slot: OwnedSemaphorePermit,
}

/// Stores results, grouped for each partition while a publish is in flight, and then acknowledges their tasks.
pub(crate) struct Results {
    bus: Bus,
    held: Arc<Held>,
    lanes: Mutex<HashMap<(AggregateKind, u32), mpsc::UnboundedSender<Report>>>,
}

impl Results {
    pub(crate) fn new(bus: Bus, held: Arc<Held>) -> Self {
        Self { bus, held, lanes: Mutex::default() }
    }

    /// Takes a result on; the task stays held until it is stored.
    pub(crate) fn report(&self, to: &ReplyTo, result: TaskResult, slot: OwnedSemaphorePermit) {
        let task_id = result.task_id.clone();
        let signal = to.signal(self.within_limits(result));
        let partition = self.bus.installation().partitions.of(&to.id);
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry((to.kind, partition)).or_insert_with(|| {
            // Bounded by the slots.
            let (sender, receiver) = mpsc::unbounded_channel();
            tokio::spawn(store_groups(self.bus.clone(), self.held.clone(), to.kind, receiver));
            sender
        });
        // The other end goes away only together with this one, or with the runtime.
        let _ = lane.send(Report { task_id, signal, _slot: slot });
    }

    /// A result too large for a message becomes a failure that says so (rule 13).
    fn within_limits(&self, result: TaskResult) -> TaskResult {
        let (size, limit) = (result.encoded_len(), self.bus.max_payload() / 2);
        if size <= limit {
            return result;
        }
        let message = format!("the result has {size} bytes and may have {limit}: write less to $CDFLOW_OUTPUT");
        TaskResult {
            task_id: result.task_id,
            fence: result.fence,
            worker_instance: result.worker_instance,
            ..failed(ErrorClass::Input, message)
        }
    }
}

async fn store_groups(bus: Bus, held: Arc<Held>, kind: AggregateKind, mut reports: mpsc::UnboundedReceiver<Report>) {
    let limit = bus.max_payload() / 2;
    let mut waiting: Vec<Report> = Vec::new();
    loop {
        // What came while the last group was stored, or else the next one.
        let room = GROUP.saturating_sub(waiting.len());
        if waiting.is_empty() {
            if reports.recv_many(&mut waiting, room).await == 0 {
                return;
            }
        } else {
            while waiting.len() < GROUP
                && let Ok(report) = reports.try_recv()
            {
                waiting.push(report);
            }
        }
        let later = waiting.split_off(fitting(waiting.iter().map(|report| report.signal.encoded_len()), limit));
        store(&bus, kind, waiting.iter().map(|report| report.signal.clone()).collect()).await;
        for report in waiting {
            acknowledge(&bus, held.finish(&report.task_id), AckKind::Ack).await;
        }
        waiting = later;
    }
}

/// How many of the first sizes fit below the limit together; at least one.
fn fitting(sizes: impl Iterator<Item = usize>, limit: usize) -> usize {
    let mut total = 0;
    sizes
        .take_while(|size| {
            total += size + 8;
            total <= limit
        })
        .count()
        .max(1)
}

/// Sends the same group until it is stored.
async fn store(bus: &Bus, kind: AggregateKind, signals: Vec<Signal>) {
    while let Err(error) = bus.send_signals(kind, signals.clone()).await {
        tracing::warn!(%error, results = signals.len(), "results are not stored yet");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Tells the server what has become of deliveries. It may miss that: the task comes again, and is recognised.
pub(crate) async fn acknowledge(bus: &Bus, deliveries: Vec<async_nats::Subject>, kind: AckKind) {
    let client = bus.client();
    for delivery in deliveries {
        if let Err(error) = client.publish(delivery, kind.into()).await {
            tracing::debug!(%error, "acknowledging a task");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_delivery_reports_under_another_id() {
        let to = ReplyTo::new("run", "r1", "").expect("runs take results");
        let result = |delivery| TaskResult {
            task_id: "t".into(),
            fence: Some(Fence { incarnation: 1, sequence: 7, delivery }),
            ..Default::default()
        };
        assert_ne!(to.signal(result(1)).id, to.signal(result(2)).id);
        assert_eq!(to.signal(result(1)), to.signal(result(1)));
    }

    #[test]
    fn only_runs_and_verifications_take_results() {
        assert!(ReplyTo::new("verification", "v", "").is_some());
        assert!(ReplyTo::new("lock", "l", "").is_none());
        assert!(ReplyTo::new("", "", "").is_none());
    }

    #[test]
    fn a_group_ends_at_half_of_a_message_and_is_never_empty() {
        assert_eq!(fitting([40, 40, 40].into_iter(), 100), 2);
        assert_eq!(fitting([400].into_iter(), 100), 1);
        assert_eq!(fitting([1, 1].into_iter(), 100), 2);
    }
}
