//! A deploy stage to verify: instances with counters, and an owner that stores what is decided.

#![allow(dead_code, reason = "each test file uses another part")]

use cdflow_journal::{Aggregate as _, Decision, Input};
use cdflow_pipeline::plan::Profile;
use cdflow_protocol::v1::{
    Arm, BeginPhase, Effect, EndVerification, Instance, Reading, Readings, RunSignal, Task, TaskResult, Verdict,
    VerificationAnswer, VerificationEvent, VerificationSignal, effect, run_signal, verification_signal,
};
use cdflow_verifier::Verification;
use prost::Message as _;

pub(crate) const ID: &str = "run-1.prod";

pub(crate) fn profile() -> Profile {
    Profile {
        name: "web".into(),
        path: "/metrics".into(),
        every_ms: 1_000,
        requests: "http_requests_total".into(),
        errors: r#"http_requests_total{code=~"5.."}"#.into(),
        alpha: 0.01,
        beta: 0.05,
        harmful_odds_ratio: 2.0,
        bake_ms: 20_000,
        min_ticks: 15,
        min_requests: 100,
        max_error_rate: 0.05,
    }
}

/// One running process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) id: String,
    pub(crate) canary: bool,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) started: f64,
    pub(crate) failure: String,
}

impl Process {
    pub(crate) fn new(id: &str, canary: bool) -> Self {
        // Control processes have run for a while.
        let (requests, errors) = if canary { (0, 0) } else { (500_000, 2_500) };
        Self { id: id.into(), canary, requests, errors, started: 1_000.0, failure: String::new() }
    }

    pub(crate) fn serve(&mut self, requests: u64, errors: u64) {
        self.requests += requests;
        self.errors += errors;
    }

    pub(crate) fn restart(&mut self) {
        (self.requests, self.errors) = (0, 0);
        self.started += 50.0;
    }

    fn reading(&self) -> Reading {
        Reading {
            instance_id: self.id.clone(),
            canary: self.canary,
            requests: self.requests as f64,
            errors: self.errors as f64,
            started: self.started,
            failure: self.failure.clone(),
        }
    }
}

/// The owner of one verification, and the world that it looks at.
pub(crate) struct Stage {
    pub(crate) verification: Verification,
    pub(crate) events: Vec<VerificationEvent>,
    pub(crate) processes: Vec<Process>,
    pub(crate) now: i64,
    pub(crate) profile: Profile,
    /// Collector tasks that run.
    pub(crate) collectors: Vec<Task>,
    pub(crate) answers: Vec<VerificationAnswer>,
}

impl Stage {
    /// Two instances of v1.1.0, and one of v1.2.0.
    pub(crate) fn with_control() -> Self {
        Self::of(vec![Process::new("new-1", true), Process::new("old-1", false), Process::new("old-2", false)])
    }

    pub(crate) fn first_release() -> Self {
        Self::of(vec![Process::new("new-1", true)])
    }

    fn of(processes: Vec<Process>) -> Self {
        Self {
            verification: Verification::default(),
            events: Vec::new(),
            processes,
            now: 1_700_000_000_000,
            profile: profile(),
            collectors: Vec::new(),
            answers: Vec::new(),
        }
    }

    pub(crate) fn phase(&self, step: &str, weight: u32, within_ms: i64) -> BeginPhase {
        let arm = |canary: bool| Arm {
            canary,
            instances: self
                .processes
                .iter()
                .filter(|process| process.canary == canary)
                .map(|process| Instance {
                    id: process.id.clone(),
                    version: if canary { "v1.2.0" } else { "v1.1.0" }.into(),
                    ..Instance::default()
                })
                .collect(),
        };
        BeginPhase {
            run_id: "run-1".into(),
            stage_id: "prod".into(),
            step_id: step.into(),
            attempt: 1,
            profile: serde_json::to_vec(&self.profile).expect("JSON"),
            arms: vec![arm(true), arm(false)],
            weight,
            within_ms,
            watch: false,
            pool: "dmz".into(),
            traceparent: String::new(),
        }
    }

    pub(crate) fn begin(&mut self, begin: BeginPhase) {
        self.signal(verification_signal::Kind::Begin(begin));
    }

    pub(crate) fn watch(&mut self, within_ms: i64) {
        let phase = self.phase("watch", 100, within_ms);
        self.begin(BeginPhase { watch: true, ..phase });
    }

    pub(crate) fn end(&mut self) {
        self.signal(verification_signal::Kind::End(EndVerification { reason: "the stage is over".into() }));
    }

    pub(crate) fn task_result(&mut self, result: TaskResult) {
        self.signal(verification_signal::Kind::TaskResult(result));
    }

    pub(crate) fn signal(&mut self, kind: verification_signal::Kind) {
        self.input(Input::Signal(VerificationSignal { kind: Some(kind) }));
    }

    pub(crate) fn input(&mut self, input: Input<VerificationSignal>) {
        let before = self.verification.clone();
        let Decision { events, effects } = before.decide(ID, input, self.now).expect("not refused");
        assert_eq!(self.verification, before, "deciding changes nothing");
        for event in &events {
            self.verification.apply(event);
        }
        self.events.extend(events);
        effects.into_iter().for_each(|effect| self.carry_out(effect));
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect.kind.expect("an effect") {
            effect::Kind::Task(task) => self.collectors.push(task),
            effect::Kind::CancelTask(cancel) => self.collectors.retain(|task| task.id != cancel.id),
            effect::Kind::Signal(sent) => {
                assert_eq!(sent.aggregate, "run");
                let signal = sent.signal.expect("a signal");
                assert_eq!(signal.aggregate_id, "run-1");
                let decoded = RunSignal::decode(signal.payload.as_slice()).expect("a run signal");
                let Some(run_signal::Kind::Verification(answer)) = decoded.kind else { panic!("{decoded:?}") };
                assert_eq!(signal.id, format!("{ID}.{}.{}.verdict", answer.step_id, answer.attempt));
                self.answers.push(answer);
            }
            effect::Kind::Publish(_) => panic!("nothing is published"),
        }
    }

    /// What a collector would send now.
    pub(crate) fn readings(&self) -> Readings {
        Readings {
            time_ms: self.now,
            readings: self.processes.iter().map(Process::reading).collect(),
            task_id: self.collectors.last().map(|task| task.id.clone()).unwrap_or_default(),
        }
    }

    pub(crate) fn scrape(&mut self) {
        let readings = self.readings();
        self.signal(verification_signal::Kind::Readings(readings));
    }

    /// One second in which each canary process serves `new` (requests, errors) and each other one `old`; then a scrape.
    pub(crate) fn second(&mut self, new: (u64, u64), old: (u64, u64)) {
        self.now += 1_000;
        for process in &mut self.processes {
            let (requests, errors) = if process.canary { new } else { old };
            process.serve(requests, errors);
        }
        self.scrape();
    }

    /// Seconds until there is another answer, or `None` after `most` of them.
    pub(crate) fn until_answer(&mut self, most: u32, new: (u64, u64), old: (u64, u64)) -> Option<u32> {
        let answers = self.answers.len();
        (1..=most).find(|_| {
            self.second(new, old);
            self.answers.len() > answers
        })
    }

    pub(crate) fn tick(&mut self) {
        self.input(Input::Tick);
    }

    pub(crate) fn tick_at_deadline(&mut self) {
        self.now = self.verification.deadline().expect("a deadline");
        self.tick();
    }

    pub(crate) fn verdict(&self) -> &Verdict {
        self.answers.last().expect("an answer").verdict.as_ref().expect("a verdict")
    }

    pub(crate) fn sentence(&self) -> &str {
        &self.verdict().sentence
    }

    pub(crate) fn figure(&self, name: &str) -> &str {
        let figures = &self.verdict().figures;
        figures.iter().find(|figure| figure.name == name).map_or("missing", |figure| &figure.value)
    }
}
