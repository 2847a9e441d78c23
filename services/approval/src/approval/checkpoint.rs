//! State as bytes. A checkpoint is the events that lead to it, so what `apply` can read, `restore` can.

use cdflow_journal::Aggregate as _;
use cdflow_protocol::v1::{ApprovalDecided, ApprovalEvent, ApprovalRequested, Decide, approval_event::Kind};
use prost::Message;

use super::{Approval, ended, event};

#[derive(Clone, PartialEq, Message)]
struct State {
    #[prost(message, repeated, tag = "1")]
    events: Vec<ApprovalEvent>,
}

pub(super) fn write(approval: &Approval) -> Vec<u8> {
    let requested = approval.request.iter().map(|request| {
        event(Kind::Requested(ApprovalRequested { request: Some(request.clone()), time_ms: approval.requested_ms }))
    });
    let votes = approval.votes.iter().map(|vote| {
        let decision = Decide {
            person: vote.person.clone(),
            groups: vote.groups.iter().cloned().collect(),
            approve: vote.approve,
            comment: vote.comment.clone(),
            channel: vote.channel.clone(),
            ..Default::default()
        };
        event(Kind::Decided(ApprovalDecided { decision: Some(decision), time_ms: vote.time_ms }))
    });
    let end = approval.end.iter().map(ended);
    State { events: requested.chain(votes).chain(end).collect() }.encode_to_vec()
}

pub(super) fn read(state: &[u8]) -> Result<Approval, String> {
    let state = State::decode(state).map_err(|error| format!("not the state of an approval: {error}"))?;
    let mut approval = Approval::default();
    state.events.iter().for_each(|event| approval.apply(event));
    Ok(approval)
}
