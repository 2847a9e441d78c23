//! What people ask for: each becomes a signal, and its answer is that of the aggregate.

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
};
use cdflow_pipeline::{Configuration, Deployment, Request, compile, compile_deployment, plan::Plan};
use cdflow_protocol::v1::{self, approval_signal, run_command, run_signal, trigger_signal};
use uuid::Uuid;

use super::{Failure, Viewer, configuration::invalid};
use crate::{
    api::{
        ApprovalView, CancelRun, CommandAnswer, DecideApproval, RollBackRun, RunView, StartDeployment, StartRun,
        StartedRun,
    },
    command::{Command, Handled},
    console::Console,
    project::ProjectConfiguration,
    read_model::{self, RunRef},
};

/// Longest reason or comment, in bytes.
const LONGEST_TEXT: usize = 4 << 10;

type Body<T> = Result<Json<T>, JsonRejection>;
type Started = Result<(StatusCode, Json<StartedRun>), Failure>;
type Answered = Result<(StatusCode, Json<CommandAnswer>), Failure>;

pub(super) async fn start_run(
    State(console): State<Console>,
    Extension(viewer): Extension<Viewer>,
    body: Body<StartRun>,
) -> Started {
    let Json(start) = body?;
    let configuration = console.newest_configuration().await?;
    let request = Request {
        project: console.project().to_owned(),
        pipeline: start.pipeline,
        revision: configuration.revision(),
        version: start.version,
        inputs: start.inputs,
        stages: Some(start.stages).filter(|stages| !stages.is_empty()),
        ..Request::default()
    };
    let plan = compiled(&configuration, |configuration| compile(configuration, &request))?;
    let cause = format!("started by {}", viewer.person);
    request_run(&console, &viewer, start.run_id, &plan, cause).await
}

pub(super) async fn start_deployment(
    State(console): State<Console>,
    Extension(viewer): Extension<Viewer>,
    body: Body<StartDeployment>,
) -> Started {
    let Json(start) = body?;
    let configuration = console.newest_configuration().await?;
    let request = Deployment {
        project: console.project().to_owned(),
        revision: configuration.revision(),
        service: start.service,
        version: start.version,
        environment: start.environment,
        ..Deployment::default()
    };
    let plan = compiled(&configuration, |configuration| compile_deployment(configuration, &request))?;
    let cause = format!("deployment to {} by {}", request.environment, viewer.person);
    request_run(&console, &viewer, start.run_id, &plan, cause).await
}

fn compiled(
    configuration: &ProjectConfiguration,
    plan: impl FnOnce(&Configuration) -> Result<Plan, cdflow_pipeline::Diagnostics>,
) -> Result<Plan, Failure> {
    let checked = configuration.configuration().map_err(|reason| Failure::Unavailable(reason.to_owned()))?;
    plan(checked).map_err(|diagnostics| invalid(&diagnostics))
}

async fn request_run(
    console: &Console,
    viewer: &Viewer,
    run_id: Option<String>,
    plan: &Plan,
    cause: String,
) -> Started {
    let run_id = match run_id {
        Some(id) if !is_run_id(&id) => {
            return Err(Failure::BadRequest(format!("{id:?} cannot be the id of a run: use a UUID")));
        }
        Some(id) => id,
        None => Uuid::now_v7().to_string(),
    };
    let encoded =
        serde_json::to_vec(plan).map_err(|error| Failure::Internal(format!("the plan cannot be encoded: {error}")))?;
    let request = v1::RequestRun {
        run_id: run_id.clone(),
        pipeline: plan.pipeline.clone(),
        version: plan.artifact.as_ref().map(|artifact| artifact.version.clone()).unwrap_or_default(),
        plan: encoded,
        initiator: Some(actor(viewer)),
        cause,
        traceparent: cdflow_telemetry::traceparent(&tracing::Span::current()),
    };
    let command = Command::Trigger(trigger_signal::Kind::RequestRun(request));
    match console.command(console.project(), command).await? {
        Handled::Refused { code, message } => Err(Failure::Refused { code, message }),
        Handled::Pending => {
            let path = format!("/runs/{run_id}");
            Ok((StatusCode::ACCEPTED, Json(StartedRun { run_id, number: None, path })))
        }
        Handled::Done => {
            let run = console.database().run(console.project(), &RunRef::Id(run_id.clone())).await?;
            let number = run.map(|run| run.number);
            let path = number.map_or_else(|| format!("/runs/{run_id}"), |number| format!("/runs/{number}"));
            Ok((StatusCode::OK, Json(StartedRun { run_id, number, path })))
        }
    }
}

fn is_run_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

pub(super) async fn cancel_run(
    State(console): State<Console>,
    Extension(viewer): Extension<Viewer>,
    Path(run): Path<String>,
    body: Body<CancelRun>,
) -> Answered {
    let Json(request) = body?;
    answered(cancel(&console, &viewer, &run, request).await?)
}

pub(super) async fn roll_back_run(
    State(console): State<Console>,
    Extension(viewer): Extension<Viewer>,
    Path(run): Path<String>,
    body: Body<RollBackRun>,
) -> Answered {
    let Json(request) = body?;
    answered(roll_back(&console, &viewer, &run, request).await?)
}

pub(super) async fn decide_approval(
    State(console): State<Console>,
    Extension(viewer): Extension<Viewer>,
    Path(run): Path<String>,
    body: Body<DecideApproval>,
) -> Answered {
    let Json(request) = body?;
    answered(approve(&console, &viewer, &run, request).await?)
}

fn answered(answer: CommandAnswer) -> Answered {
    let status = if answer.handled { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(answer)))
}

/// Stops a run now.
pub(crate) async fn cancel(
    console: &Console,
    viewer: &Viewer,
    run: &str,
    request: CancelRun,
) -> Result<CommandAnswer, Failure> {
    let run = console.run(run).await?;
    let kind = run_command::Kind::Cancel(v1::CancelRun {});
    let handled = console.command(&run.id, run_command(viewer, request.reason, kind)?).await?;
    answer(handled, format!("run {} is being cancelled; what it changed is rolled back", run.number))
}

/// Rolls back a stage.
pub(crate) async fn roll_back(
    console: &Console,
    viewer: &Viewer,
    run: &str,
    request: RollBackRun,
) -> Result<CommandAnswer, Failure> {
    let run = console.run(run).await?;
    let stage = match &request.stage {
        Some(stage) if run.stages.iter().any(|candidate| candidate.id == *stage) => stage.clone(),
        Some(stage) => return Err(Failure::NotFound(format!("stage {stage} in run {}", run.number))),
        None => {
            run.stages.iter().rev().find(|stage| stage.is_live()).map(|stage| stage.id.clone()).ok_or_else(|| {
                Failure::BadRequest(format!(
                    "run {} has no stage that is live: there is nothing to roll back",
                    run.number
                ))
            })?
        }
    };
    let kind = run_command::Kind::RollBack(v1::RollBackRun { stage_id: stage.clone() });
    let handled = console.command(&run.id, run_command(viewer, request.reason, kind)?).await?;
    answer(handled, format!("stage {stage} of run {} is being rolled back", run.number))
}

/// Decides an approval.
pub(crate) async fn approve(
    console: &Console,
    viewer: &Viewer,
    run: &str,
    request: DecideApproval,
) -> Result<CommandAnswer, Failure> {
    let comment = bounded(request.comment)?;
    let run = console.run(run).await?;
    let approval = open_approval(&run, viewer, request.stage.as_deref())?;
    // Rights are those of this moment, not of the last change that happened to arrive here.
    let configuration = console.newest_configuration().await?;
    let decision = v1::Decide {
        person: viewer.person.clone(),
        groups: configuration.directory().groups_of(&viewer.person),
        config_revision: configuration.revision(),
        approve: request.approve,
        comment,
        channel: viewer.channel.as_str().to_owned(),
    };
    let command = Command::Approval(approval_signal::Kind::Decide(decision));
    let handled = console.command(&approval.id, command).await?;
    let verb = if request.approve { "approved" } else { "rejected" };
    answer(handled, format!("{} {verb} run {} (stage {})", viewer.person, run.number, approval.stage))
}

fn run_command(viewer: &Viewer, reason: String, kind: run_command::Kind) -> Result<Command, Failure> {
    let command = v1::RunCommand { actor: Some(actor(viewer)), reason: bounded(reason)?, kind: Some(kind) };
    Ok(Command::Run(run_signal::Kind::Command(command)))
}

fn answer(handled: Handled, message: String) -> Result<CommandAnswer, Failure> {
    match handled {
        Handled::Done => Ok(CommandAnswer { handled: true, message }),
        Handled::Pending => Ok(CommandAnswer {
            handled: false,
            message: "stored, not yet handled: `cdflow explain` shows when it takes effect".into(),
        }),
        Handled::Refused { code, message } => Err(Failure::Refused { code, message }),
    }
}

fn actor(viewer: &Viewer) -> v1::Actor {
    v1::Actor { kind: "person".into(), name: viewer.person.clone() }
}

fn bounded(text: String) -> Result<String, Failure> {
    if text.len() > LONGEST_TEXT {
        return Err(Failure::TooLarge(format!("a reason or comment has at most {LONGEST_TEXT} bytes")));
    }
    Ok(text.trim().to_owned())
}

/// The approval that is meant: the only one that is open, or the only one this person can decide.
fn open_approval<'r>(run: &'r RunView, viewer: &Viewer, stage: Option<&str>) -> Result<&'r ApprovalView, Failure> {
    let open: Vec<&ApprovalView> = run
        .approvals
        .iter()
        .filter(|approval| approval.outcome.is_none() && stage.is_none_or(|stage| approval.stage == stage))
        .collect();
    let eligible: Vec<&ApprovalView> =
        open.iter().copied().filter(|approval| approval.eligible.contains(&viewer.person)).collect();
    match (open.as_slice(), eligible.as_slice()) {
        ([only], _) | (_, [only]) => Ok(only),
        ([], _) => {
            let number = run.number;
            // The one that has ended says how, in the aggregate's own words.
            let last = run.approvals.iter().rev().find(|approval| stage.is_none_or(|stage| approval.stage == stage));
            last.ok_or_else(|| match stage {
                Some(stage) => Failure::BadRequest(format!("stage {stage} of run {number} asks for no approval")),
                None => Failure::BadRequest(format!(
                    "run {number} waits for no approval: `cdflow explain {number}` says what it waits for"
                )),
            })
        }
        _ => {
            let stages: Vec<String> = open.iter().map(|approval| approval.stage.clone()).collect();
            Err(Failure::BadRequest(format!(
                "run {} waits for several approvals: say which stage, {}",
                run.number,
                read_model::list(&stages, "or")
            )))
        }
    }
}
