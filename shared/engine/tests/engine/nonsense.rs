//! Events and answers that make no sense, with extreme numbers: they change nothing or something, and never panic.

use cdflow_engine::{Run, run};
use cdflow_journal::{Aggregate, Input};
use cdflow_protocol::v1::{
    ApprovalAnswer, CancelRun, LockAnswer, RollBackRun, RunCommand, RunCommanded, RunEvent, RunSignal, RunStarted,
    StageFinished, StagePromoted, StageRollingBack, StageStarted, StepFinished, StepStarted, StepWaiting, TaskResult,
    Verdict, VerificationAnswer, run_command, run_event::Kind, run_signal,
};
use proptest::{prelude::*, sample::select};

use crate::{
    plans::{With, approve, canary, plan, script, stage, step},
    world::RUN,
};

fn start() -> Run {
    let steps = vec![
        approve("ask"),
        script("work", "x").tried(3, i64::MAX),
        step("pause", cdflow_pipeline::plan::Action::Wait { duration_ms: i64::MAX }),
    ];
    let mut first = stage("first", &[], steps);
    first.timeout_ms = i64::MAX;
    let plan = plan(vec![first, canary("prod", &["first"], "vms")]);
    let mut run = Run::default();
    let event = RunStarted { plan: run::encode_plan(&plan), ..RunStarted::default() };
    run.apply(&RunEvent { kind: Some(Kind::RunStarted(event)) });
    run
}

fn stages() -> impl Strategy<Value = String> {
    select(vec!["first", "prod", "nowhere"]).prop_map(str::to_owned)
}

fn steps() -> impl Strategy<Value = String> {
    let all = vec![
        "ask",
        "work",
        "pause",
        "lock",
        "observe",
        "stage",
        "verify-5",
        "promoted",
        "unlock",
        "watch",
        "relock",
        "rollback-lock",
        "rollback-shift",
        "rollback-unlock",
        "nothing",
    ];
    select(all).prop_map(str::to_owned)
}

fn times() -> impl Strategy<Value = i64> {
    select(vec![i64::MIN, -1, 0, 1, 1_000, 3_600_000, i64::MAX])
}

fn attempts() -> impl Strategy<Value = u32> {
    select(vec![0, 1, 2, u32::MAX])
}

fn commands() -> impl Strategy<Value = RunCommand> {
    (stages(), any::<bool>()).prop_map(|(stage_id, cancels)| RunCommand {
        kind: Some(if cancels {
            run_command::Kind::Cancel(CancelRun {})
        } else {
            run_command::Kind::RollBack(RollBackRun { stage_id })
        }),
        ..RunCommand::default()
    })
}

prop_compose! {
    fn events()(
        kind in 0..9, stage_id in stages(), step_id in steps(), attempt in attempts(), time_ms in times(),
        other_ms in times(), outcome in -1..12, command in commands(),
    ) -> RunEvent {
        let reason = String::new();
        RunEvent { kind: Some(match kind {
            0 => Kind::StageStarted(StageStarted { stage_id, time_ms }),
            1 => Kind::StepStarted(StepStarted {
                stage_id, step_id, attempt, time_ms, deadline_ms: other_ms, ..StepStarted::default()
            }),
            2 => Kind::StepWaiting(StepWaiting { stage_id, step_id, message: reason, time_ms }),
            3 | 4 => Kind::StepFinished(StepFinished {
                stage_id, step_id, attempt, outcome, time_ms, retry_at_ms: other_ms, ..StepFinished::default()
            }),
            5 => Kind::StagePromoted(StagePromoted { stage_id, time_ms }),
            6 => Kind::StageRollingBack(StageRollingBack { stage_id, reason, time_ms }),
            7 => Kind::StageFinished(StageFinished { stage_id, outcome, reason, time_ms, started_ms: other_ms }),
            _ => Kind::RunCommanded(RunCommanded { command: Some(command), time_ms }),
        }) }
    }
}

prop_compose! {
    fn inputs()(
        kind in 0..6, stage_id in stages(), step_id in steps(), attempt in attempts(), outcome in -1..12,
        number in -1..5, command in commands(),
    ) -> Input<RunSignal> {
        let task_id = cdflow_protocol::ids::task_id(RUN, &stage_id, &step_id, attempt);
        Input::Signal(RunSignal { kind: Some(match kind {
            0 => return Input::TaskLost(task_id),
            1 => run_signal::Kind::TaskResult(TaskResult { task_id, outcome, ..TaskResult::default() }),
            2 => run_signal::Kind::Lock(LockAnswer { stage_id, step_id, attempt, kind: number, ..LockAnswer::default() }),
            3 => run_signal::Kind::Approval(ApprovalAnswer {
                approval_id: cdflow_protocol::ids::approval_id(RUN, &stage_id, &step_id),
                stage_id, step_id, outcome, decisions: vec![],
            }),
            4 => run_signal::Kind::Verification(VerificationAnswer {
                stage_id, step_id, attempt, verdict: Some(Verdict { kind: number, ..Verdict::default() }),
                ..VerificationAnswer::default()
            }),
            _ => run_signal::Kind::Command(command),
        }) })
    }
}

proptest! {
    #[test]
    fn no_history_and_no_answer_makes_a_run_panic(
        history in proptest::collection::vec(events(), 0..30),
        answers in proptest::collection::vec((inputs(), times()), 0..20),
    ) {
        let mut run = start();
        for event in &history {
            run.apply(event);
        }
        for (input, now) in answers {
            for input in [input, Input::Tick] {
                let Ok(decision) = run.decide(RUN, input, now) else { continue };
                for event in &decision.events {
                    run.apply(event);
                }
            }
            run::explain(&run, now);
            run.deadline();
            run.outstanding_tasks();
            prop_assert_eq!(Run::restore(&run.checkpoint()), Ok(run.clone()));
        }
    }
}
