//! The aggregate: events seen and runs started in one project.

mod remembered;

use std::collections::BTreeSet;

use cdflow_journal::{Aggregate, Decision, Input, refuse};
use cdflow_protocol::{
    AggregateKind, UnixMillis,
    v1::{
        Effect, EventRecorded, EventSeen, Refusal, RequestRun, RunRequested, RunSignal, SendSignal, Signal, StartRun,
        TriggerEvent, TriggerSignal, effect, run_signal, trigger_event, trigger_signal,
    },
};
use prost::Message as _;

use remembered::{Key, Remembered};

/// Codes of refusals.
pub mod codes {
    /// A request without a run id, pipeline or plan: nothing could be started.
    pub const INCOMPLETE: &str = "incomplete-request";
    /// An event without source or id: it could not be told from another.
    pub const NAMELESS: &str = "nameless-event";
    /// The signal has no content that this release knows.
    pub const EMPTY: &str = "empty-signal";
}

/// Numbers the runs of a project and starts each only once. Its id is the project.
///
/// - The same event (CloudEvents `source` and `id`) is recorded once; a repetition changes nothing.
/// - The same digest for the same pipeline starts nothing a second time; the record says which run has it.
/// - The same run id starts one run, whether it was asked for by an event or by a person.
/// - Numbers are 1, 2, 3, … without a gap, in the order of starting.
///
/// What it remembers is forgotten [`TriggerLedger::REMEMBERED_DAYS`] days after it was stored, counted by the times of
/// stored events, so nothing is forgotten while nothing happens. That outlives the 14 days for which the stream `CI`
/// keeps an event, so an event that is delivered again is always known. A key takes 24 bytes: a project with a
/// thousand events a day holds less than 2 MB.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TriggerLedger {
    last_number: u64,
    remembered: Remembered,
}

impl TriggerLedger {
    /// How long events, digests and run ids are known: longer than [`CI`](cdflow_protocol::streams::CI) keeps events.
    pub const REMEMBERED_DAYS: i64 = remembered::DAYS;

    /// Number of the newest run; 0 before the first.
    pub fn last_number(&self) -> u64 {
        self.last_number
    }

    fn event_seen(&self, seen: EventSeen, now: UnixMillis) -> Result<Decision<TriggerEvent>, Refusal> {
        if seen.source.is_empty() || seen.event_id.is_empty() {
            return Err(refuse(codes::NAMELESS, "an event must have a source and an id to be told from another"));
        }
        if self.remembered.get(&Key::event(&seen.source, &seen.event_id)).is_some() {
            return Ok(Decision::nothing());
        }
        let mut starting = Starting::after(self, now);
        let mut not_started = Vec::new();
        for request in seen.starts {
            match self.obstacle(&request, &seen.digest, &starting) {
                Some(reason) => not_started.push(reason),
                None => starting.start(request, &seen.digest, &seen.traceparent, seen.received_ms),
            }
        }
        if !seen.ignored_because.is_empty() {
            not_started.push(seen.ignored_because);
        }
        starting.events.push(recorded(EventRecorded {
            source: seen.source,
            event_id: seen.event_id,
            r#type: seen.r#type,
            subject: seen.subject,
            digest: seen.digest,
            run_numbers: starting.numbers.clone(),
            ignored_because: not_started.join("; "),
            time_ms: now,
        }));
        Ok(starting.decision())
    }

    /// Why a request of an event starts nothing.
    fn obstacle(&self, request: &RequestRun, digest: &str, starting: &Starting) -> Option<String> {
        if let Err(refusal) = check(request) {
            return Some(refusal.message);
        }
        if let Some(number) = self.remembered.get(&Key::run(&request.run_id)) {
            return Some(format!("run {number} was started by this request before"));
        }
        let artifact = (!digest.is_empty()).then(|| Key::artifact(&request.pipeline, digest));
        if let Some(number) = artifact.as_ref().and_then(|key| self.remembered.get(key)) {
            return Some(format!("pipeline {} has released {digest} already, in run {number}", request.pipeline));
        }
        if starting.has(&request.run_id, artifact.as_ref()) {
            return Some(format!("pipeline {} is started by this event already", request.pipeline));
        }
        None
    }

    fn request_run(&self, request: RequestRun, now: UnixMillis) -> Result<Decision<TriggerEvent>, Refusal> {
        check(&request)?;
        if self.remembered.get(&Key::run(&request.run_id)).is_some() {
            return Ok(Decision::nothing());
        }
        let mut starting = Starting::after(self, now);
        starting.start(request, "", "", 0);
        Ok(starting.decision())
    }
}

impl Aggregate for TriggerLedger {
    const KIND: AggregateKind = AggregateKind::Trigger;
    type Signal = TriggerSignal;
    type Event = TriggerEvent;

    fn decide(
        &self,
        _project: &str,
        input: Input<TriggerSignal>,
        now: UnixMillis,
    ) -> Result<Decision<TriggerEvent>, Refusal> {
        use trigger_signal::Kind;
        match input {
            Input::Signal(TriggerSignal { kind: Some(Kind::EventSeen(seen)) }) => self.event_seen(seen, now),
            Input::Signal(TriggerSignal { kind: Some(Kind::RequestRun(request)) }) => self.request_run(request, now),
            Input::Signal(TriggerSignal { kind: None }) => {
                Err(refuse(codes::EMPTY, "this signal asks nothing that this release of cdflow knows"))
            }
            Input::Tick | Input::TaskLost(_) => Ok(Decision::nothing()),
        }
    }

    fn apply(&mut self, event: &TriggerEvent) {
        use trigger_event::Kind;
        match &event.kind {
            Some(Kind::RunRequested(run)) => {
                self.last_number = self.last_number.max(run.number);
                self.remembered.insert(Key::run(&run.run_id), run.number, run.time_ms);
                if !run.digest.is_empty() {
                    self.remembered.insert(Key::artifact(&run.pipeline, &run.digest), run.number, run.time_ms);
                }
            }
            Some(Kind::EventRecorded(event)) => {
                let number = event.run_numbers.first().copied().unwrap_or(0);
                self.remembered.insert(Key::event(&event.source, &event.event_id), number, event.time_ms);
            }
            None => {}
        }
    }

    fn deadline(&self) -> Option<UnixMillis> {
        None
    }

    fn outstanding_tasks(&self) -> Vec<String> {
        Vec::new()
    }

    fn is_finished(&self) -> bool {
        false
    }

    fn checkpoint(&self) -> Vec<u8> {
        remembered::State { last_number: self.last_number, days: self.remembered.to_days() }.encode_to_vec()
    }

    fn restore(state: &[u8]) -> Result<Self, String> {
        let state = remembered::State::decode(state).map_err(|error| format!("not the state of a ledger: {error}"))?;
        Ok(Self { last_number: state.last_number, remembered: Remembered::from_days(&state.days)? })
    }
}

/// The runs that one decision starts.
struct Starting {
    last_number: u64,
    now: UnixMillis,
    numbers: Vec<u64>,
    keys: BTreeSet<Key>,
    events: Vec<TriggerEvent>,
    effects: Vec<Effect>,
}

impl Starting {
    fn after(ledger: &TriggerLedger, now: UnixMillis) -> Self {
        Self {
            last_number: ledger.last_number,
            now,
            numbers: Vec::new(),
            keys: BTreeSet::new(),
            events: Vec::new(),
            effects: Vec::new(),
        }
    }

    fn has(&self, run_id: &str, artifact: Option<&Key>) -> bool {
        self.keys.contains(&Key::run(run_id)) || artifact.is_some_and(|key| self.keys.contains(key))
    }

    fn start(&mut self, request: RequestRun, digest: &str, traceparent_of_event: &str, received_ms: UnixMillis) {
        self.last_number += 1;
        let number = self.last_number;
        self.numbers.push(number);
        self.keys.insert(Key::run(&request.run_id));
        if !digest.is_empty() {
            self.keys.insert(Key::artifact(&request.pipeline, digest));
        }
        self.events.push(TriggerEvent {
            kind: Some(trigger_event::Kind::RunRequested(RunRequested {
                number,
                run_id: request.run_id.clone(),
                pipeline: request.pipeline,
                version: request.version,
                digest: digest.to_owned(),
                initiator: request.initiator.clone(),
                cause: request.cause.clone(),
                time_ms: self.now,
                received_ms,
            })),
        });
        let traceparent =
            if request.traceparent.is_empty() { traceparent_of_event.to_owned() } else { request.traceparent };
        let start = StartRun {
            number,
            plan: request.plan,
            initiator: request.initiator,
            cause: request.cause,
            traceparent: traceparent.clone(),
        };
        let signal = Signal {
            id: format!("{}.start", request.run_id),
            aggregate_id: request.run_id,
            payload: RunSignal { kind: Some(run_signal::Kind::Start(start)) }.encode_to_vec(),
            traceparent,
            ..Default::default()
        };
        let send = SendSignal { aggregate: AggregateKind::Run.to_string(), signal: Some(signal) };
        self.effects.push(Effect { kind: Some(effect::Kind::Signal(send)) });
    }

    fn decision(self) -> Decision<TriggerEvent> {
        Decision { events: self.events, effects: self.effects }
    }
}

fn check(request: &RequestRun) -> Result<(), Refusal> {
    let missing = [
        (request.run_id.is_empty(), "run id"),
        (request.pipeline.is_empty(), "pipeline"),
        (request.plan.is_empty(), "compiled plan"),
    ];
    match missing.iter().find(|(is_missing, _)| *is_missing) {
        Some((_, what)) => Err(refuse(codes::INCOMPLETE, format!("a request to start a run came without its {what}"))),
        None => Ok(()),
    }
}

fn recorded(event: EventRecorded) -> TriggerEvent {
    TriggerEvent { kind: Some(trigger_event::Kind::EventRecorded(event)) }
}
