//! What a comparison has counted so far: for people to look at while they wait. The verdict is the verifier's.

use std::collections::BTreeMap;

use cdflow_protocol::v1::{self, verification_event};
use serde::{Deserialize, Serialize};

use crate::api::{Counted, EvidenceView, RunView, StepStatus};

/// The phase of a comparison that goes on, or the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    pub(crate) run_id: String,
    stage: String,
    step: String,
    /// Last totals of each instance, and the start of its process.
    instances: BTreeMap<String, Totals>,
    canary: Totals,
    control: Totals,
    has_control: bool,
    time_ms: i64,
    ended: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Totals {
    requests: f64,
    errors: f64,
    started: f64,
}

impl Evidence {
    pub(crate) fn is_going_on(&self) -> bool {
        !self.ended
    }

    fn take(&mut self, reading: &v1::Reading) {
        if !reading.failure.is_empty() {
            return;
        }
        let now = Totals { requests: reading.requests, errors: reading.errors, started: reading.started };
        self.has_control |= !reading.canary;
        // The first reading of an instance tells where its counters are, no more.
        let Some(before) = self.instances.insert(reading.instance_id.clone(), now) else { return };
        let restarted = before.started != now.started || now.requests < before.requests;
        let base = if restarted { Totals::default() } else { before };
        let arm = if reading.canary { &mut self.canary } else { &mut self.control };
        arm.requests += (now.requests - base.requests).max(0.0);
        arm.errors += (now.errors - base.errors).max(0.0);
    }

    fn view(&self) -> EvidenceView {
        EvidenceView {
            canary: counted(self.canary),
            control: self.has_control.then(|| counted(self.control)),
            time_ms: self.time_ms,
        }
    }
}

/// Counters are whole numbers in a format that has none.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
fn counted(totals: Totals) -> Counted {
    Counted { requests: totals.requests.round() as u64, errors: totals.errors.round() as u64 }
}

/// Folds one event. `evidence` is `None` before the first.
pub(crate) fn apply(evidence: &mut Option<Evidence>, event: &v1::VerificationEvent) -> Option<()> {
    match event.kind.as_ref()? {
        verification_event::Kind::Began(began) => {
            let phase = began.phase.as_ref()?;
            *evidence = Some(Evidence {
                run_id: phase.run_id.clone(),
                stage: phase.stage_id.clone(),
                step: phase.step_id.clone(),
                instances: BTreeMap::new(),
                canary: Totals::default(),
                control: Totals::default(),
                has_control: false,
                time_ms: began.time_ms,
                ended: false,
            });
        }
        verification_event::Kind::Readings(taken) => {
            let evidence = evidence.as_mut()?;
            let readings = taken.readings.as_ref()?;
            for reading in &readings.readings {
                evidence.take(reading);
            }
            evidence.time_ms = readings.time_ms;
        }
        verification_event::Kind::Ended(_) => evidence.as_mut()?.ended = true,
        verification_event::Kind::Verdict(_) | verification_event::Kind::Collector(_) => {}
    }
    Some(())
}

/// Puts what was counted into the steps that are counting.
pub(crate) fn join(run: &mut RunView, all: &[Evidence]) {
    for evidence in all {
        let stages = run.stages.iter_mut().filter(|stage| stage.id == evidence.stage);
        let steps = stages.flat_map(|stage| &mut stage.steps).filter(|step| step.id == evidence.step);
        for step in steps.filter(|step| step.status == StepStatus::Running) {
            step.evidence = Some(evidence.view());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(kind: verification_event::Kind) -> v1::VerificationEvent {
        v1::VerificationEvent { kind: Some(kind) }
    }

    fn readings(time_ms: i64, of: &[(&str, bool, f64, f64, f64)]) -> v1::VerificationEvent {
        let readings = of
            .iter()
            .map(|(instance, canary, requests, errors, started)| v1::Reading {
                instance_id: (*instance).to_owned(),
                canary: *canary,
                requests: *requests,
                errors: *errors,
                started: *started,
                failure: String::new(),
            })
            .collect();
        let readings = v1::Readings { time_ms, readings, task_id: String::new() };
        event(verification_event::Kind::Readings(v1::ReadingsTaken { readings: Some(readings), time_ms }))
    }

    #[test]
    fn what_was_counted_before_the_comparison_does_not_count_and_a_restart_loses_nothing() {
        let mut evidence = None;
        let phase = v1::BeginPhase { run_id: "r".into(), ..v1::BeginPhase::default() };
        apply(
            &mut evidence,
            &event(verification_event::Kind::Began(v1::PhaseBegan { phase: Some(phase), time_ms: 1 })),
        );
        for reading in [
            readings(2, &[("new", true, 1_000.0, 10.0, 5.0), ("old", false, 9_000.0, 90.0, 1.0)]),
            readings(3, &[("new", true, 1_010.0, 12.0, 5.0), ("old", false, 9_100.0, 91.0, 1.0)]),
            readings(4, &[("new", true, 5.0, 1.0, 8.0)]),
        ] {
            apply(&mut evidence, &reading);
        }
        let view = evidence.unwrap().view();
        assert_eq!(view.canary, Counted { requests: 15, errors: 3 });
        assert_eq!(view.control, Some(Counted { requests: 100, errors: 1 }));
        assert_eq!(view.time_ms, 4);
    }
}
