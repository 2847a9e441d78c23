//! Folds the events of an approval into what people see. Who may decide is judged by the approval itself; what is
//! shown here only says whom it makes sense to ask.

use std::collections::BTreeSet;

use cdflow_protocol::v1::{self, approval_event};
use serde::{Deserialize, Serialize};

use super::{titles, words};
use crate::api::{ApprovalView, DecisionView, Quorum, RunView, StepStatus};

/// A request for approval, with what its view does not show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Approval {
    pub(crate) run_id: String,
    /// Person who started the run; empty if nobody did.
    initiator: String,
    pub(crate) view: ApprovalView,
}

impl Approval {
    pub(crate) fn is_open(&self) -> bool {
        self.view.outcome.is_none()
    }
}

/// Folds one event. `approval` is `None` before the first.
pub(crate) fn apply(approval: &mut Option<Approval>, id: &str, event: &v1::ApprovalEvent) -> Option<()> {
    match event.kind.as_ref()? {
        approval_event::Kind::Requested(requested) => {
            *approval = Some(begin(id, requested.request.as_ref()?, requested.time_ms));
        }
        approval_event::Kind::Decided(decided) => {
            let approval = approval.as_mut()?;
            let decision = decided.decision.as_ref()?;
            approval.view.decisions.push(DecisionView {
                person: decision.person.clone(),
                approve: decision.approve,
                comment: decision.comment.clone(),
                channel: decision.channel.clone(),
                time_ms: decided.time_ms,
            });
            if decision.approve {
                let Approval { view, initiator, .. } = approval;
                for quorum in &mut view.by {
                    if decision.groups.contains(&quorum.group) && counts(quorum, &decision.person, initiator) {
                        quorum.have += 1;
                    }
                }
            }
        }
        approval_event::Kind::Ended(ended) => {
            let view = &mut approval.as_mut()?.view;
            view.outcome = words::outcome(ended.outcome);
            view.reason.clone_from(&ended.reason);
        }
    }
    let approval = approval.as_mut()?;
    approval.view.eligible = eligible(approval);
    Some(())
}

fn begin(id: &str, request: &v1::RequestApproval, time_ms: i64) -> Approval {
    let initiator = request.initiator.as_ref().filter(|actor| actor.kind == "person");
    let quorum = |(group, need): (&String, &u32)| Quorum {
        group: group.clone(),
        have: 0,
        need: *need,
        members: request.groups.get(group).map(|members| members.names.clone()).unwrap_or_default(),
    };
    Approval {
        run_id: request.run_id.clone(),
        initiator: initiator.map(|actor| actor.name.clone()).unwrap_or_default(),
        view: ApprovalView {
            id: id.to_owned(),
            stage: request.stage_id.clone(),
            step: request.step_id.clone(),
            message: request.message.clone(),
            by: request.by.iter().map(quorum).collect(),
            decisions: Vec::new(),
            eligible: Vec::new(),
            requested_ms: time_ms,
            expires_ms: (request.expires_ms > 0).then_some(request.expires_ms),
            outcome: None,
            reason: String::new(),
        },
    }
}

/// Who started the run does not count for a group whose other members are enough.
fn counts(quorum: &Quorum, person: &str, initiator: &str) -> bool {
    let others = quorum.members.iter().filter(|member| *member != initiator).count();
    person != initiator || others < quorum.need as usize
}

/// Who has not decided and counts for a group that still needs somebody.
fn eligible(approval: &Approval) -> Vec<String> {
    let view = &approval.view;
    if view.outcome.is_some() {
        return Vec::new();
    }
    let decided = |person: &str| view.decisions.iter().any(|decision| decision.person == person);
    let open = view.by.iter().filter(|quorum| quorum.have < quorum.need);
    let people: BTreeSet<&String> = open
        .flat_map(|quorum| quorum.members.iter().filter(|person| counts(quorum, person, &approval.initiator)))
        .filter(|person| !decided(person))
        .collect();
    people.into_iter().cloned().collect()
}

/// Puts the approvals of a run into its view, and says in what it waits for whom exactly.
pub(crate) fn join(run: &mut RunView, approvals: Vec<Approval>) {
    let mut views: Vec<ApprovalView> = approvals.into_iter().map(|approval| approval.view).collect();
    views.sort_by(|a, b| (a.requested_ms, &a.id).cmp(&(b.requested_ms, &b.id)));
    let number = run.number;
    for view in views.iter().filter(|view| view.outcome.is_none()) {
        let (what, released_by) = (what(view), released_by(view, number));
        let steps = run.stages.iter_mut().filter(|stage| stage.id == view.stage).flat_map(|stage| &mut stage.steps);
        let in_steps = steps
            .filter(|step| step.id == view.step && step.status == StepStatus::Waiting)
            .filter_map(|step| step.waiting.as_mut());
        let in_run = run.waiting.iter_mut().filter(|waiting| waiting.stage == view.stage && waiting.step == view.step);
        for waiting in in_steps.chain(in_run) {
            waiting.what.clone_from(&what);
            waiting.released_by.clone_from(&released_by);
            waiting.until_ms = view.expires_ms.or(waiting.until_ms);
        }
    }
    run.approvals = views;
}

fn what(view: &ApprovalView) -> String {
    let groups = view.by.iter().map(|quorum| format!("{} ({} of {})", quorum.group, quorum.have, quorum.need));
    titles::list(&groups.collect::<Vec<_>>(), "and")
}

fn released_by(view: &ApprovalView, number: u64) -> String {
    if view.eligible.is_empty() {
        return "nobody who could decide is left: cancel the run, or add members to the groups and start it again"
            .into();
    }
    format!("{}: `cdflow approve {number}`", titles::list(&view.eligible, "or"))
}
