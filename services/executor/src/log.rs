//! What a person reads while a step runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::message::PublishMessage;
use cdflow_bus::Bus;
use cdflow_protocol::{
    UnixMillis, streams, subjects,
    v1::{LogLine, Task},
    wall_clock,
};
use prost::Message as _;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::redact::Redactor;

/// How long lines wait for more of their kind.
const GATHER: Duration = Duration::from_millis(40);
/// Most lines that are published before the first of them is confirmed.
const TOGETHER: usize = 512;
/// Lines of a later delivery are numbered from here on, times the delivery: they are other lines.
const LINES_OF_A_DELIVERY: u64 = 1 << 32;

/// The log of one delivery of one task. Cheap to clone.
#[derive(Clone)]
pub struct StepLog {
    redactor: Arc<Redactor>,
    next: Arc<AtomicU64>,
    lines: mpsc::UnboundedSender<Line>,
}

/// A line, free of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Rises within an attempt.
    pub number: u64,
    /// When it was written.
    pub time_ms: UnixMillis,
    /// Without the end of line.
    pub text: String,
    /// Written to standard error.
    pub stderr: bool,
}

impl StepLog {
    /// A log, and where its lines come out.
    pub fn new(redactor: Redactor, delivery: u64) -> (Self, mpsc::UnboundedReceiver<Line>) {
        let (lines, receiver) = mpsc::unbounded_channel();
        let first = delivery.saturating_sub(1).saturating_mul(LINES_OF_A_DELIVERY);
        (Self { redactor: Arc::new(redactor), next: Arc::new(AtomicU64::new(first)), lines }, receiver)
    }

    /// Something that the executor did.
    pub fn say(&self, text: impl AsRef<str>) {
        for line in text.as_ref().lines() {
            self.write(line, false);
        }
    }

    /// A line of somebody's output.
    pub fn write(&self, text: &str, stderr: bool) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let line = Line { number, time_ms: wall_clock(), text: self.redactor.redact(text), stderr };
        // Nobody listens any more when the step has ended: a late line is of no use.
        let _ = self.lines.send(line);
    }

    /// Text without secrets, for what is published elsewhere.
    pub fn redact(&self, text: &str) -> String {
        self.redactor.redact(text)
    }

    /// See [`Redactor::longest`].
    pub(crate) fn longest_secret(&self) -> usize {
        self.redactor.longest()
    }
}

/// Publishes lines to LOGS, grouped, until the log is dropped. Lines that the server does not take within a while are
/// lost: a step does not fail for its log.
pub(crate) fn publish(bus: Bus, task: &Task, mut lines: mpsc::UnboundedReceiver<Line>) -> JoinHandle<()> {
    let subject = subjects::log(&task.run_id, &task.stage_id, &task.step_id);
    let (task_id, template) = (
        task.id.clone(),
        LogLine {
            run_id: task.run_id.clone(),
            stage_id: task.stage_id.clone(),
            step_id: task.step_id.clone(),
            attempt: task.attempt,
            ..Default::default()
        },
    );
    tokio::spawn(async move {
        let mut group = Vec::new();
        while lines.recv_many(&mut group, TOGETHER).await > 0 {
            if group.len() < TOGETHER {
                tokio::time::sleep(GATHER).await;
                while group.len() < TOGETHER
                    && let Ok(line) = lines.try_recv()
                {
                    group.push(line);
                }
            }
            let mut confirmations = Vec::with_capacity(group.len());
            for line in group.drain(..) {
                let message = PublishMessage::build()
                    .message_id(format!("{task_id}.{}", line.number))
                    .expected_stream(streams::LOGS)
                    .payload(encode(&template, line).into());
                match bus.context().send_publish(subject.clone(), message).await {
                    Ok(confirmation) => confirmations.push(confirmation),
                    Err(error) => tracing::warn!(%error, subject, "a line of a step's log is lost"),
                }
            }
            for confirmation in confirmations {
                if let Err(error) = confirmation.await {
                    tracing::warn!(%error, subject, "a line of a step's log may be lost");
                }
            }
        }
    })
}

fn encode(template: &LogLine, line: Line) -> Vec<u8> {
    let Line { number, time_ms, text, stderr } = line;
    LogLine { number, time_ms, text, stderr, ..template.clone() }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_and_those_of_a_second_delivery_are_others() {
        let (log, mut lines) = StepLog::new(Redactor::default(), 1);
        log.say("one\ntwo");
        assert_eq!([lines.try_recv().unwrap().number, lines.try_recv().unwrap().number], [0, 1]);
        let (log, mut lines) = StepLog::new(Redactor::default(), 2);
        log.say("one");
        assert_eq!(lines.try_recv().unwrap().number, 1 << 32);
    }
}
