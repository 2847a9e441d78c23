//! The [`Run`] and [`Lock`] aggregates: what happens next, and why.
//!
//! # What is promised
//! - A decision follows from the state and the signal alone. There is no clock, no I/O and no randomness here, so the
//!   same code runs in the orchestrator, in a dry run, in property tests and in a simulator.
//! - Signals may come in any order and more than once. An answer that nobody waits for changes nothing.
//! - A stage that has begun to change its target ends promoted or rolled back, or it ends as failed with a message
//!   that says what is where and that a person is needed. It never tries for ever.
//! - What was found at the target is in an event before the first task that may change it is sent, so there is
//!   always something to go back to. See [`run`] for the rules in full.
//!
//! # What a crash in the middle does
//! Nothing is kept outside of events. A decision whose events were not stored has not happened and none of its effects
//! has left; one whose events were stored is folded again by the next owner, which sends the effects again under the
//! same ids. A task that vanished with its worker comes back as `Input::TaskLost` and is sent as a new attempt, in a
//! new commit and therefore with a higher fence.
//!
//! # Example
//! ```
//! use cdflow_engine::{Run, run};
//! use cdflow_journal::{Aggregate, Input};
//! use cdflow_protocol::v1::{RunSignal, StartRun, effect, run_signal};
//! use cdflow_pipeline::plan::{Action, Plan, Stage, Step};
//!
//! let step = Step { id: "1".into(), action: Action::Nothing { pool: "any".into() }, condition: None, timeout_ms: 0, retry: None };
//! let stage = Stage { id: "dev".into(), needs: vec![], condition: None, deploy: None, steps: vec![step], rollback: vec![], timeout_ms: 0 };
//! let plan = Plan {
//!     project: "default".into(), pipeline: "empty".into(), revision: 1, service: None, artifact: None,
//!     inputs: Default::default(), event: Default::default(), stages: vec![stage],
//! };
//! let start = StartRun { number: 1, plan: run::encode_plan(&plan), ..Default::default() };
//!
//! let mut run = Run::default();
//! let decision = run.decide("0192", Input::Signal(RunSignal { kind: Some(run_signal::Kind::Start(start)) }), 1_000)?;
//! assert!(matches!(decision.effects[0].kind, Some(effect::Kind::Task(_))));
//! for event in &decision.events {
//!     run.apply(event);
//! }
//! assert_eq!(run.outstanding_tasks(), ["0192-dev-1-1"]);
//! # Ok::<(), cdflow_protocol::v1::Refusal>(())
//! ```

pub mod lock;
pub mod run;

pub use lock::Lock;
pub use run::Run;
