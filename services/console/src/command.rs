//! Commands of people: sent as signals, answered when the projector has seen what became of them.

use std::time::Duration;

use cdflow_protocol::{
    AggregateKind,
    v1::{self, Signal},
};
use prost::Message as _;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    console::Console,
    read_model::{Answer, Topic},
};

/// What the ids of signals of people begin with: their answers are kept.
pub(crate) const COMMAND_PREFIX: &str = "command-";

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Handled {
    /// It took effect.
    Done,
    /// The aggregate refused it.
    Refused { code: String, message: String },
    /// It is stored; nobody has handled it yet.
    Pending,
}

/// Why a command could not be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Bus(#[from] cdflow_bus::Error),
    #[error(transparent)]
    ReadModel(#[from] crate::read_model::Error),
}

/// A command for one aggregate.
pub(crate) enum Command {
    Trigger(v1::trigger_signal::Kind),
    Run(v1::run_signal::Kind),
    Approval(v1::approval_signal::Kind),
}

impl Command {
    fn kind(&self) -> AggregateKind {
        match self {
            Self::Trigger(_) => AggregateKind::Trigger,
            Self::Run(_) => AggregateKind::Run,
            Self::Approval(_) => AggregateKind::Approval,
        }
    }

    fn payload(self) -> Vec<u8> {
        match self {
            Self::Trigger(kind) => v1::TriggerSignal { kind: Some(kind) }.encode_to_vec(),
            Self::Run(kind) => v1::RunSignal { kind: Some(kind) }.encode_to_vec(),
            Self::Approval(kind) => v1::ApprovalSignal { kind: Some(kind) }.encode_to_vec(),
        }
    }
}

impl Console {
    /// Stores a command and waits for its answer. A crash in between leaves it stored or not; a stored one takes effect
    /// whether somebody waits or not.
    pub(crate) async fn command(&self, aggregate_id: &str, command: Command) -> Result<Handled, Error> {
        let signal_id = format!("{COMMAND_PREFIX}{}", Uuid::now_v7());
        let mut changes = self.changes().subscribe();
        let signal = Signal {
            id: signal_id.clone(),
            aggregate_id: aggregate_id.to_owned(),
            traceparent: cdflow_telemetry::traceparent(&tracing::Span::current()),
            version: 0,
            payload: Vec::new(),
        };
        let kind = command.kind();
        self.bus().send_outside_signals(kind, vec![Signal { payload: command.payload(), ..signal }]).await?;
        let deadline = Instant::now() + self.answer_within();
        loop {
            match self.database().answer(&signal_id).await? {
                Some(Answer { code, .. }) if code.is_empty() => return Ok(Handled::Done),
                Some(Answer { code, message }) => return Ok(Handled::Refused { code, message }),
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Handled::Pending);
            }
            // Bounded, so that an answer which another process has stored is seen too.
            let next = changes.next(Topic::Answer(&signal_id));
            if let Ok(false) = tokio::time::timeout(left.min(Duration::from_secs(1)), next).await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
