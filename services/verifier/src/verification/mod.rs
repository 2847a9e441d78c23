//! The `Verification` aggregate: one for each deploy stage, from first traffic to the end of the watch.
//!
//! The weights of a rollout are strata of one test, so one `alpha` holds for all of them; the watch has its own share
//! of it ([`cdflow_evidence::Budget`]). Raw totals are journaled as they were read, and everything else is computed
//! from them in [`Aggregate::apply`], so that folding the events again gives the same verdict bit for bit.

mod explain;
mod increments;
mod judge;
mod state;
mod words;

use cdflow_journal::{Aggregate, Decision, Input, refuse};
use cdflow_protocol::{
    AggregateKind, UnixMillis, ids,
    v1::{
        BeginPhase, CancelTask, CollectTask, CollectorStarted, Effect, EndVerification, ErrorClass, Outcome,
        PhaseBegan, Readings, ReadingsTaken, Refusal, RunSignal, SendSignal, Signal, Task, TaskResult, VerdictGiven,
        VerificationAnswer, VerificationEnded, VerificationEvent, VerificationSignal, effect, run_signal, task,
        verification_event, verification_signal,
    },
};
use prost::Message as _;

use judge::{PATIENCE_WITH_COLLECTORS, Rules, hopeless, judge};
pub(crate) use state::Phase;
use state::{Evidence, State};

/// The kind of worker that reads counters.
pub const COLLECTOR: &str = "collector";

/// Version of the payload of signals to runs.
const SIGNAL_VERSION: u32 = 1;

/// Weight of harm that is there from the first request on; harm that begins with a later weight shares the rest. It
/// costs `log(4/3)` of evidence where the harm is there at once.
const FIRST_ONSET: f64 = 0.75;

/// The same for the watch; the minutes of the watch share the rest.
const FIRST_ONSET_OF_WATCH: f64 = 0.5;

const MINUTE_MS: i64 = 60_000;

/// The evidence of one deploy stage.
#[derive(Debug, Clone, Default)]
pub struct Verification {
    state: State,
    /// Read from the phase's profile, `None` where it cannot be.
    rules: Option<Rules>,
}

impl PartialEq for Verification {
    fn eq(&self, other: &Self) -> bool {
        // The rules follow from the state.
        self.state == other.state
    }
}

/// What spans are made of.
impl Verification {
    /// What is being verified now, or was last.
    pub(crate) fn latest_phase(&self) -> Option<&Phase> {
        self.state.phase.as_ref()
    }

    pub(crate) fn has_verdict(&self, step: &str, attempt: u32) -> bool {
        self.state.verdict_of(step, attempt).is_some()
    }
}

type Outcomes = Decision<VerificationEvent>;

impl Aggregate for Verification {
    const KIND: AggregateKind = AggregateKind::Verification;
    type Signal = VerificationSignal;
    type Event = VerificationEvent;

    fn decide(&self, id: &str, input: Input<VerificationSignal>, now: UnixMillis) -> Result<Outcomes, Refusal> {
        use verification_signal::Kind;
        let signal = match input {
            Input::Tick => return Ok(self.conclude(id, now)),
            Input::TaskLost(task) => return Ok(self.replace_collector(id, &task, now)),
            Input::Signal(signal) => signal,
        };
        match signal.kind {
            Some(Kind::Begin(begin)) => Ok(self.begin(id, begin, now)),
            Some(Kind::Readings(readings)) => Ok(self.take(id, readings, now)),
            Some(Kind::TaskResult(result)) => Ok(self.collector_ended(id, &result, now)),
            Some(Kind::End(end)) => Ok(self.end(end, now)),
            None => {
                Err(refuse("empty-signal", "a signal to a verification says nothing; was it sent by a newer release?"))
            }
        }
    }

    fn apply(&mut self, event: &VerificationEvent) {
        use verification_event::Kind;
        match &event.kind {
            Some(Kind::Began(began)) => self.apply_begin(began),
            Some(Kind::Readings(taken)) => {
                self.apply_readings(taken);
            }
            Some(Kind::Verdict(given)) => {
                if self.state.verdict_of(&given.step_id, given.attempt).is_none() {
                    self.state.given.push(given.clone());
                }
                if self.state.open_phase().is_none() {
                    self.state.collector = None;
                }
            }
            Some(Kind::Collector(started)) => {
                if let Some(phase) = &mut self.state.phase
                    && self.state.collector.is_some()
                {
                    phase.collector_failures += 1;
                }
                self.state.collector.clone_from(&started.task);
                self.state.collectors += 1;
            }
            Some(Kind::Ended(ended)) => {
                self.state.ended.get_or_insert_with(|| ended.reason.clone());
                self.state.collector = None;
            }
            None => {}
        }
    }

    fn deadline(&self) -> Option<UnixMillis> {
        self.state.open_phase().map(Phase::deadline_ms)
    }

    fn outstanding_tasks(&self) -> Vec<String> {
        self.state.collector.iter().map(|task| task.id.clone()).collect()
    }

    fn is_finished(&self) -> bool {
        self.state.ended.is_some()
    }

    fn checkpoint(&self) -> Vec<u8> {
        self.state.encode_to_vec()
    }

    fn restore(state: &[u8]) -> Result<Self, String> {
        let state =
            State::decode(state).map_err(|error| format!("the stored state of a verification is damaged: {error}"))?;
        if let Some(Err(error)) = state.evidence().map(Evidence::test) {
            return Err(format!("the stored state of a verification is damaged: {error}"));
        }
        let rules = state.phase.as_ref().and_then(|phase| Rules::of(phase.begin()).ok());
        Ok(Self { state, rules })
    }
}

/// What follows from inputs.
impl Verification {
    fn begin(&self, id: &str, begin: BeginPhase, now: UnixMillis) -> Outcomes {
        if let Some(given) = self.state.verdict_of(&begin.step_id, begin.attempt) {
            return Decision { events: Vec::new(), effects: vec![answer(id, &begin, given)] };
        }
        let is_known = self.state.phase.as_ref().is_some_and(|phase| {
            let known = phase.begin();
            known.step_id == begin.step_id && known.attempt >= begin.attempt
        });
        if is_known || self.state.ended.is_some() {
            return Decision::nothing();
        }
        let mut steps = Steps::from(self);
        if let Err(sentence) = Rules::of(&begin) {
            let given = VerdictGiven {
                step_id: begin.step_id.clone(),
                attempt: begin.attempt,
                verdict: Some(hopeless(format!("undecided: {sentence}"))),
                time_ms: now,
            };
            steps.effects.push(answer(id, &begin, &given));
            steps.event(verification_event::Kind::Verdict(given));
            return steps.decision();
        }
        steps.cancel_collector("another phase has begun");
        steps.event(verification_event::Kind::Began(PhaseBegan { phase: Some(begin), time_ms: now }));
        steps.start_collector(id, now);
        steps.decision()
    }

    fn take(&self, id: &str, readings: Readings, now: UnixMillis) -> Outcomes {
        let is_current = self.state.collector.as_ref().is_some_and(|task| task.id == readings.task_id);
        let is_newer = self.state.open_phase().is_some_and(|phase| reading_time(&readings, now) > phase.read_ms);
        if !is_current || !is_newer {
            return Decision::nothing();
        }
        let mut steps = Steps::from(self);
        steps.event(verification_event::Kind::Readings(ReadingsTaken { readings: Some(readings), time_ms: now }));
        steps.judge(id, now);
        steps.decision()
    }

    fn conclude(&self, id: &str, now: UnixMillis) -> Outcomes {
        let mut steps = Steps::from(self);
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            steps.judge(id, now);
        }
        steps.decision()
    }

    fn collector_ended(&self, id: &str, result: &TaskResult, now: UnixMillis) -> Outcomes {
        let Some(phase) = self.state.open_phase() else { return Decision::nothing() };
        if self.state.collector.as_ref().is_none_or(|task| task.id != result.task_id) {
            return Decision::nothing();
        }
        let is_our_fault = matches!(result.error_class(), ErrorClass::Configuration | ErrorClass::Input)
            && result.outcome() == Outcome::Failed;
        if is_our_fault || phase.collector_failures >= PATIENCE_WITH_COLLECTORS {
            let mut steps = Steps::from(self);
            steps.give(id, hopeless(format!("undecided: counters cannot be read: {}", result.message)), now);
            return steps.decision();
        }
        self.replace_collector(id, &result.task_id, now)
    }

    fn replace_collector(&self, id: &str, lost: &str, now: UnixMillis) -> Outcomes {
        let mut steps = Steps::from(self);
        if self.state.open_phase().is_some() && self.state.collector.as_ref().is_some_and(|task| task.id == lost) {
            steps.start_collector(id, now);
        }
        steps.decision()
    }

    fn end(&self, end: EndVerification, now: UnixMillis) -> Outcomes {
        let mut steps = Steps::from(self);
        if self.state.ended.is_none() {
            steps.cancel_collector(&end.reason);
            // Also when nothing has begun: what begins afterwards is too late.
            steps.event(verification_event::Kind::Ended(VerificationEnded { reason: end.reason, time_ms: now }));
        }
        steps.decision()
    }
}

/// What events do to the state.
impl Verification {
    fn apply_begin(&mut self, began: &PhaseBegan) {
        let Some(begin) = &began.phase else { return };
        self.rules = Rules::of(begin).ok();
        self.state.collector = None;
        self.state.phase = Some(Phase::starting(begin.clone(), began.time_ms));
        let Some(rules) = &self.rules else { return };
        if begin.watch {
            let first = if minutes_of(begin) > 1 { FIRST_ONSET_OF_WATCH } else { 1.0 };
            // A watch that is asked for again goes on with its evidence: its share of alpha is spent once.
            self.state.watch.get_or_insert_with(|| Evidence::starting(rules.margins, first));
            return;
        }
        let earlier = f64::from(self.state.rollout_phases);
        self.state.rollout_phases += 1;
        match &mut self.state.rollout {
            // The shares of the second, third, ... weight are 1/2, 1/6, 1/12, ...: they add up to 1 however many follow.
            Some(evidence) => evidence.allow_onset((1.0 - FIRST_ONSET) / (earlier * (earlier + 1.0))),
            none => *none = Some(Evidence::starting(rules.margins, FIRST_ONSET)),
        }
    }

    fn apply_readings(&mut self, taken: &ReadingsTaken) {
        let (Some(readings), Some(rules), Some(phase)) = (&taken.readings, &self.rules, &mut self.state.phase) else {
            return;
        };
        let read_ms = reading_time(readings, taken.time_ms);
        if read_ms <= phase.read_ms {
            return;
        }
        let closed = increments::take(phase, readings, read_ms, rules.profile.min_requests);
        let watching = phase.begin().watch;
        let evidence = if watching { &mut self.state.watch } else { &mut self.state.rollout };
        let Some(evidence) = evidence else { return };
        if watching {
            let minutes = minutes_of(phase.begin());
            let passed = ((taken.time_ms - phase.began_ms) / MINUTE_MS).clamp(0, i64::from(minutes - 1));
            let marks = u32::try_from(passed).unwrap_or(0).saturating_sub(phase.onsets);
            if marks > 0 {
                phase.onsets += marks;
                evidence.allow_onset((1.0 - FIRST_ONSET_OF_WATCH) * f64::from(marks) / f64::from(minutes - 1));
            }
        }
        if let Some(closed) = closed {
            evidence.push(closed.stratum, closed.covered_ms);
        }
    }
}

/// Minutes of a watch, at least 1.
fn minutes_of(begin: &BeginPhase) -> u32 {
    u32::try_from(begin.within_ms / MINUTE_MS).unwrap_or(u32::MAX).max(1)
}

/// A worker whose clock is ahead must not make later readings of another look old.
fn reading_time(readings: &Readings, now: UnixMillis) -> UnixMillis {
    readings.time_ms.min(now)
}

fn answer(id: &str, begin: &BeginPhase, given: &VerdictGiven) -> Effect {
    let signal = RunSignal {
        kind: Some(run_signal::Kind::Verification(VerificationAnswer {
            verification_id: id.to_owned(),
            stage_id: begin.stage_id.clone(),
            step_id: given.step_id.clone(),
            attempt: given.attempt,
            verdict: given.verdict.clone(),
        })),
    };
    Effect {
        kind: Some(effect::Kind::Signal(SendSignal {
            aggregate: AggregateKind::Run.as_str().to_owned(),
            signal: Some(Signal {
                id: format!("{id}.{}.{}.verdict", given.step_id, given.attempt),
                aggregate_id: begin.run_id.clone(),
                payload: signal.encode_to_vec(),
                traceparent: begin.traceparent.clone(),
                version: SIGNAL_VERSION,
            }),
        })),
    }
}

/// A decision in the making: events are applied to a copy, so that later ones follow from earlier ones.
struct Steps {
    after: Verification,
    events: Vec<VerificationEvent>,
    effects: Vec<Effect>,
}

impl From<&Verification> for Steps {
    fn from(before: &Verification) -> Self {
        Self { after: before.clone(), events: Vec::new(), effects: Vec::new() }
    }
}

impl Steps {
    fn event(&mut self, kind: verification_event::Kind) {
        let event = VerificationEvent { kind: Some(kind) };
        self.after.apply(&event);
        self.events.push(event);
    }

    fn judge(&mut self, id: &str, now: UnixMillis) {
        let Some(rules) = &self.after.rules else { return };
        if let Some(verdict) = judge(&self.after.state, rules, now) {
            self.give(id, verdict, now);
        }
    }

    fn give(&mut self, id: &str, verdict: cdflow_protocol::v1::Verdict, now: UnixMillis) {
        let Some(begin) = self.after.state.phase.as_ref().map(|phase| phase.begin().clone()) else { return };
        let given = VerdictGiven {
            step_id: begin.step_id.clone(),
            attempt: begin.attempt,
            verdict: Some(verdict),
            time_ms: now,
        };
        self.cancel_collector("the verdict is there");
        self.effects.push(answer(id, &begin, &given));
        self.event(verification_event::Kind::Verdict(given));
    }

    fn cancel_collector(&mut self, reason: &str) {
        if let Some(task) = &self.after.state.collector {
            self.effects.push(Effect {
                kind: Some(effect::Kind::CancelTask(CancelTask {
                    id: task.id.clone(),
                    worker: task.worker.clone(),
                    pool: task.pool.clone(),
                    reason: reason.to_owned(),
                })),
            });
        }
    }

    fn start_collector(&mut self, id: &str, now: UnixMillis) {
        let (Some(phase), Some(rules)) = (&self.after.state.phase, &self.after.rules) else { return };
        let begin = phase.begin();
        let step = format!("collect-{}", begin.step_id);
        let profile = &rules.profile;
        let task = Task {
            id: ids::task_id(&begin.run_id, &begin.stage_id, &step, self.after.state.collectors + 1),
            worker: COLLECTOR.to_owned(),
            pool: begin.pool.clone(),
            reply_aggregate: AggregateKind::Verification.as_str().to_owned(),
            reply_id: id.to_owned(),
            run_id: begin.run_id.clone(),
            stage_id: begin.stage_id.clone(),
            step_id: begin.step_id.clone(),
            attempt: begin.attempt,
            fence: None,
            resent: false,
            step_key: format!("{}.{}.{}", begin.run_id, begin.stage_id, step),
            timeout_ms: 0,
            traceparent: begin.traceparent.clone(),
            work: Some(task::Work::Collect(CollectTask {
                verification_id: id.to_owned(),
                arms: begin.arms.clone(),
                every_ms: profile.every_ms,
                path: profile.path.clone(),
                requests: profile.requests.clone(),
                errors: profile.errors.clone(),
            })),
        };
        self.effects.push(Effect { kind: Some(effect::Kind::Task(task.clone())) });
        self.event(verification_event::Kind::Collector(CollectorStarted { task: Some(task), time_ms: now }));
    }

    fn decision(self) -> Outcomes {
        Decision { events: self.events, effects: self.effects }
    }
}
