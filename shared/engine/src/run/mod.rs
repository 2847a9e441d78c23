//! One pipeline run: the rules.
//!
//! # Stages
//! A stage starts when every stage that it `needs` has ended, or is promoted and not in trouble. Its `if` decides then,
//! with GitHub Actions' reading: no condition is `success()`, and a condition that asks for no status means
//! `success() && …`. `success()` holds when all needed stages succeeded or are promoted; `failure()` when one failed,
//! was rejected, expired or was rolled back; `rolled_back()` when one was rolled back and none worse. **A stage that was skipped is no success**:
//! stages that need it are skipped too unless their condition asks for a status otherwise (`always()`, `!failure()`), and
//! `failure()` looks through it at what it needed itself. After a cancellation only `always()` and the like hold.
//!
//! # Steps
//! The steps of a stage run strictly one after another. When one does not end well, later ones are skipped unless their
//! condition holds after a failure; those run after the rollback, and only such as do not touch the target.
//! An attempt fails for good when its class of error cannot be helped by trying again, or the step's attempts are used
//! up. An attempt whose worker vanished does not count: it is sent again as a new attempt, unless it is a script that
//! must not be repeated.
//!
//! Other aggregates (lock, approval, verification) are asked again, under the same signal id, until they answer or the
//! step is out of time.
//!
//! # Rollback
//! A deploy stage that fails, is cancelled or is told to go back after a step that may have changed its target has
//! started is rolled back with what `observe` found before that. A rollback is not interrupted by a cancellation and has
//! no timeout but those of its steps. If one of them fails for good, the rest is not tried.
//!
//! | the stage | ends as |
//! |---|---|
//! | all steps ended well, or a newer release took over while it was watched | `succeeded` |
//! | went wrong, and was undone | `rolled-back` |
//! | went wrong, and undoing it went wrong | `failed`; the run too, whatever else happened |
//! | went wrong before it changed anything | `failed`, `rejected`, `expired` or `cancelled`, like the step |
//! | another run released after it, before it changed anything | `skipped` |
//!
//! # How a run ends
//! The first that is true: a rollback failed: `failed`. It was cancelled: `cancelled`. A stage was rolled back:
//! `rolled-back`. A stage failed, was rejected, expired, was cancelled: that. Else `succeeded`.
//!
//! # Where to look
//! What runs next: `decide.rs`. What is sent for a step: `dispatch.rs`. Undoing: `rollback.rs`. Answers: `answers.rs`.
//! Commands of people: `commands.rs`. Everything about time: `timing.rs`. Folding: `apply.rs`.

mod answers;
mod apply;
mod checkpoint;
mod commands;
mod decide;
mod dispatch;
mod explain;
mod rollback;
mod scope;
mod standing;
mod state;
mod timing;

use cdflow_journal::{Aggregate, Decision, Input, refuse};
use cdflow_pipeline::plan::Plan;
use cdflow_protocol::{
    AggregateKind, UnixMillis,
    v1::{Outcome, Refusal, RunEvent, RunSignal, RunStarted, StartRun, run_event, run_signal},
};

pub use explain::{Waiting, explain};
pub use state::Run;

pub(crate) use dispatch::send;

use decide::Deciding;

/// A plan as `StartRun` carries it.
pub fn encode_plan(plan: &Plan) -> Vec<u8> {
    // Maps of a plan have text keys and none of its types can fail to be written.
    serde_json::to_vec(plan).unwrap_or_default()
}

impl Run {
    /// The plan, once the run has started.
    pub fn plan(&self) -> Option<&Plan> {
        self.started.as_ref().map(|started| &started.plan)
    }

    /// The number that people use.
    pub fn number(&self) -> Option<u64> {
        self.started.as_ref().map(|started| started.event.number)
    }

    /// The trace of the run with this id: that of the CI event, or one of its own.
    pub fn trace_id(&self, id: &str) -> String {
        cdflow_protocol::trace::trace_id(id, self.started_by())
    }

    /// The span that caused the run, if the CI event had one.
    pub fn cause_span(&self) -> Option<String> {
        cdflow_protocol::trace::cause_span(self.started_by()).map(str::to_owned)
    }

    fn started_by(&self) -> &str {
        self.started.as_ref().map_or("", |started| started.event.traceparent.as_str())
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.finished.as_ref().map(|event| event.outcome())
    }
}

impl Aggregate for Run {
    const KIND: AggregateKind = AggregateKind::Run;
    type Signal = RunSignal;
    type Event = RunEvent;

    fn decide(&self, id: &str, input: Input<RunSignal>, now: UnixMillis) -> Result<Decision<RunEvent>, Refusal> {
        let mut deciding = Deciding::new(self, id, now);
        deciding.take(input)?;
        deciding.advance();
        Ok(deciding.decision)
    }

    fn apply(&mut self, event: &RunEvent) {
        self.fold(event);
    }

    fn deadline(&self) -> Option<UnixMillis> {
        self.next_deadline()
    }

    fn outstanding_tasks(&self) -> Vec<String> {
        if self.finished.is_some() {
            return Vec::new();
        }
        self.running_steps().filter_map(|(_, running)| Some(running.event.task.as_ref()?.id.clone())).collect()
    }

    fn is_finished(&self) -> bool {
        self.finished.is_some() || self.started.is_none()
    }

    fn checkpoint(&self) -> Vec<u8> {
        checkpoint::write(self)
    }

    fn restore(state: &[u8]) -> Result<Self, String> {
        checkpoint::read(state)
    }
}

impl Deciding<'_> {
    fn take(&mut self, input: Input<RunSignal>) -> Result<(), Refusal> {
        let kind = match input {
            Input::Signal(RunSignal { kind: Some(run_signal::Kind::Start(start)) }) => return self.on_start(start),
            Input::Signal(RunSignal { kind: Some(run_signal::Kind::Command(command)) }) => {
                return self.on_command(command);
            }
            Input::Signal(RunSignal { kind: Some(kind) }) => kind,
            Input::Signal(RunSignal { kind: None }) => {
                return Err(refuse("unknown-signal", "the signal says nothing that this version knows"));
            }
            Input::Tick => {
                self.tick();
                return Ok(());
            }
            Input::TaskLost(task_id) => {
                if let Some(started) = self.run.started.clone() {
                    self.on_task_lost(&started, &task_id);
                }
                return Ok(());
            }
        };
        let Some(started) = self.run.started.clone() else {
            return Err(refuse("unknown-run", format!("there is no run `{}`", self.id)));
        };
        match kind {
            run_signal::Kind::TaskResult(result) => self.on_task_result(&started, result),
            run_signal::Kind::Lock(answer) => self.on_lock(&started, &answer),
            run_signal::Kind::Approval(answer) => self.on_approval(&answer),
            run_signal::Kind::Verification(answer) => self.on_verdict(&started, answer),
            run_signal::Kind::Start(_) | run_signal::Kind::Command(_) => {}
        }
        Ok(())
    }

    /// Starts the run; a run that has started stays as it is.
    fn on_start(&mut self, start: StartRun) -> Result<(), Refusal> {
        if self.run.started.is_some() {
            return Ok(());
        }
        let event = RunStarted {
            number: start.number,
            plan: start.plan,
            initiator: start.initiator,
            cause: start.cause,
            traceparent: start.traceparent,
            time_ms: self.now,
        };
        self.emit(run_event::Kind::RunStarted(event.clone()));
        if self.run.started.is_none() {
            let reason = apply::read_plan(&event).err().unwrap_or_default();
            return Err(refuse("bad-plan", reason));
        }
        Ok(())
    }
}
