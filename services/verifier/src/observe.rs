//! What operators read in the log, and see of a verification in the trace of its run, once it is stored.

use cdflow_journal::{Observer, StoredEntry};
use cdflow_protocol::{
    trace,
    v1::{ErrorClass, Outcome, VerdictGiven, VerdictKind, VerificationEnded, verification_event::Kind},
};
use cdflow_telemetry::{
    cicd,
    spans::{FinishedSpan, SpanKind, emit},
};

use crate::{Verification, verification::Phase};

/// Logs phases, verdicts and collectors; emits a span for each phase that has ended.
pub(crate) struct Log;

impl Observer<Verification> for Log {
    fn stored(&self, entry: &StoredEntry<'_, Verification>) {
        let verification = entry.aggregate_id;
        for event in entry.events {
            match &event.kind {
                Some(Kind::Began(began)) => {
                    let phase = began.phase.clone().unwrap_or_default();
                    tracing::info!(
                        verification,
                        step = phase.step_id,
                        weight = phase.weight,
                        watch = phase.watch,
                        "begun"
                    );
                }
                Some(Kind::Verdict(given)) => {
                    let verdict = given.verdict.clone().unwrap_or_default();
                    let (kind, sentence) = (verdict.kind().as_str_name(), &verdict.sentence);
                    tracing::info!(verification, step = given.step_id, kind, sentence, "verdict");
                    if let Some(span) = verdict_span(verification, entry.state, given) {
                        emit(span);
                    }
                }
                Some(Kind::Ended(ended)) => {
                    tracing::info!(verification, reason = ended.reason, "ended");
                    if let Some(span) = cut_short_span(verification, entry.state, ended) {
                        emit(span);
                    }
                }
                Some(Kind::Collector(started)) => {
                    let task = started.task.as_ref().map_or("", |task| task.id.as_str());
                    tracing::info!(verification, task, "collector asked for");
                }
                Some(Kind::Readings(_)) | None => {}
            }
        }
    }
}

/// A phase that ended with a verdict; `None` when none had begun, or nobody follows the run.
fn verdict_span(id: &str, verification: &Verification, given: &VerdictGiven) -> Option<FinishedSpan> {
    let phase = verification.latest_phase().filter(|phase| {
        let begin = phase.begin();
        begin.step_id == given.step_id && begin.attempt == given.attempt
    })?;
    let verdict = given.verdict.as_ref()?;
    let outcome = match verdict.kind() {
        VerdictKind::Pass => Outcome::Succeeded,
        VerdictKind::Fail | VerdictKind::Inconclusive => Outcome::Failed,
        VerdictKind::Unspecified => Outcome::Unspecified,
    };
    let mut span = phase_span(id, phase, given.time_ms, outcome)?;
    span.attributes.extend([
        ("cdflow.verdict", verdict.kind().as_str_name().to_ascii_lowercase()),
        ("cdflow.verdict.basis", verdict.basis().as_str_name().to_ascii_lowercase()),
        ("cdflow.verdict.sentence", verdict.sentence.clone()),
    ]);
    span.error = cicd::failure(outcome, ErrorClass::Verification, &verdict.sentence);
    Some(span)
}

/// A phase that nobody waits for any more.
fn cut_short_span(id: &str, verification: &Verification, ended: &VerificationEnded) -> Option<FinishedSpan> {
    let phase = verification.latest_phase().filter(|phase| {
        let begin = phase.begin();
        !verification.has_verdict(&begin.step_id, begin.attempt)
    })?;
    phase_span(id, phase, ended.time_ms, Outcome::Cancelled)
}

fn phase_span(id: &str, phase: &Phase, end_ms: i64, outcome: Outcome) -> Option<FinishedSpan> {
    let begin = phase.begin();
    let (trace_id, step) = trace::parse(&begin.traceparent)?;
    let what = if begin.watch { "watch" } else { "verify" };
    Some(FinishedSpan {
        service: "verifier",
        kind: SpanKind::Internal,
        trace_id: trace_id.to_owned(),
        span_id: trace::phase_span(id, &begin.step_id, begin.attempt),
        parent_span_id: step.to_owned(),
        name: format!("{what} {}", begin.stage_id),
        start_ms: phase.began_ms,
        end_ms,
        attributes: vec![
            (cicd::RUN, begin.run_id.clone()),
            (cicd::STAGE, begin.stage_id.clone()),
            (cicd::TASK, begin.step_id.clone()),
            (cicd::TASK_RUN, format!("{id}.{}.{}", begin.step_id, begin.attempt)),
            (cicd::TASK_RESULT, cicd::result(outcome).into()),
            ("cdflow.weight", begin.weight.to_string()),
        ],
        error: None,
    })
}
