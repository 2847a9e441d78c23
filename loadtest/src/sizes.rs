//! How many bytes a run writes, so that the bare path writes as many.

use anyhow::{Context as _, Result, bail};
use cdflow_engine::Run;
use cdflow_journal::{Aggregate as _, Decision, Input};
use cdflow_protocol::v1::{
    Effect, Entry, Fence, Handled, Outcome, RunEvent, RunSignal, Signal, Task, TaskResult, effect, run_signal,
};
use prost::Message as _;

use crate::run::{STEPS, Starter, empty_plan, new_id};

/// Bytes of the messages of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The signal that starts it.
    pub(crate) start: usize,
    /// What the journal says of its start.
    pub(crate) started: usize,
    /// What the journal says of the end of a step and the start of the next.
    pub(crate) step: usize,
    /// A task.
    pub(crate) task: usize,
    /// The result of a task.
    pub(crate) result: usize,
}

impl Sizes {
    /// Plays a run through, alone and without a bus.
    ///
    /// # Errors
    /// When the engine does not carry it to a good end.
    pub(crate) fn of_a_run() -> Result<Self> {
        let (id, now) = (new_id(), 1_700_000_000_000);
        let mut run = Run::default();
        let start = Starter::new(&empty_plan()).signal(&id, 1);
        let mut sizes = Self { start: start.encoded_len(), started: 0, step: 0, task: 0, result: 0 };
        let mut signal = start;
        for step in 0..=STEPS {
            let input = Input::Signal(RunSignal::decode(signal.payload.as_slice())?);
            let decision = match run.decide(&id, input, now) {
                Ok(decision) => decision,
                Err(refusal) => bail!("the engine refuses: {}", refusal.message),
            };
            decision.events.iter().for_each(|event| run.apply(event));
            let task = task_of(&decision).cloned();
            let entry = entry(&id, &signal.id, decision).encoded_len();
            match step {
                0 => sizes.started = entry,
                _ => sizes.step += entry,
            }
            if step < STEPS {
                let mut task = task.context("a step without a task")?;
                task.fence = Some(Fence { incarnation: 1, sequence: 100_000, delivery: 0 });
                sizes.task += task.encoded_len();
                signal = result(&id, &task);
                sizes.result += signal.encoded_len();
            }
        }
        if run.outcome() != Some(Outcome::Succeeded) {
            bail!("the run has not succeeded after {STEPS} steps");
        }
        for sum in [&mut sizes.step, &mut sizes.task, &mut sizes.result] {
            *sum /= STEPS as usize;
        }
        Ok(sizes)
    }
}

fn task_of(decision: &Decision<RunEvent>) -> Option<&Task> {
    decision.effects.iter().find_map(|effect| match &effect.kind {
        Some(effect::Kind::Task(task)) => Some(task),
        _ => None,
    })
}

fn entry(id: &str, signal_id: &str, decision: Decision<RunEvent>) -> Entry {
    let effects: Vec<Effect> = decision.effects;
    Entry {
        aggregate_id: id.to_owned(),
        events: decision.events.iter().map(prost::Message::encode_to_vec).collect(),
        effects,
        handled: vec![Handled { signal_id: signal_id.to_owned(), refusal: None }],
    }
}

fn result(run: &str, task: &Task) -> Signal {
    let result = TaskResult {
        task_id: task.id.clone(),
        fence: task.fence,
        outcome: Outcome::Succeeded.into(),
        worker_instance: "loadtest".into(),
        ..TaskResult::default()
    };
    Signal {
        id: format!("result-{}-1-100000-1", task.id),
        aggregate_id: run.to_owned(),
        payload: RunSignal { kind: Some(run_signal::Kind::TaskResult(result)) }.encode_to_vec(),
        traceparent: task.traceparent.clone(),
        version: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_well_and_every_message_has_a_size() {
        let sizes = Sizes::of_a_run().expect("the run succeeds");
        assert!(sizes.start > 500 && sizes.started > sizes.start, "the plan is in both: {sizes:?}");
        assert!(sizes.step > sizes.task && sizes.task > 50 && sizes.result > 50, "{sizes:?}");
    }
}
