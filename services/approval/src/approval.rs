//! The aggregate: one request for approval, from asking to its end.

mod checkpoint;

use cdflow_journal::{Aggregate, Decision, Input, refuse};
use cdflow_protocol::{
    AggregateKind, UnixMillis,
    v1::{
        ApprovalAnswer, ApprovalDecided, ApprovalEnded, ApprovalEvent, ApprovalRequested, ApprovalSignal, Decide,
        Effect, Outcome, Refusal, RequestApproval, RunSignal, SendSignal, Signal, WithdrawApproval, approval_event,
        approval_signal, effect, run_signal,
    },
};
use prost::Message as _;

use crate::quorum::{self, GroupProgress, Vote};

/// Codes of refusals; each is journaled with a sentence for the person who decided.
pub mod codes {
    /// No such request. It may be on its way: `cdflow explain RUN` shows what waits.
    pub const UNKNOWN: &str = "unknown-approval";
    /// The request has ended; the sentence says how, when and by whom.
    pub const ALREADY_DECIDED: &str = "already-decided";
    /// This person has said something already; the first word counts.
    pub const ALREADY_VOTED: &str = "already-voted";
    /// The person is in none of the groups that are asked; the sentence names them.
    pub const NOT_ELIGIBLE: &str = "not-eligible";
    /// The person started the run, and others can decide.
    pub const INITIATOR: &str = "initiator-excluded";
    /// The time to decide is over.
    pub const EXPIRED: &str = "expired";
    /// The signal has no content that this release knows.
    pub const EMPTY: &str = "empty-signal";
}

/// A request for approval. Its id is [`cdflow_protocol::ids::approval_id`].
///
/// - **Quorum**: each group has its own minimum (at least 1); a person in several groups counts for each.
/// - **Initiator**: a person who started the run does not count for a group while its other members, as the plan lists
///   them, could reach the minimum. In a group too small for that the initiator counts: otherwise a team of one could
///   never release. A run started by CI, a schedule or a service has no such person.
/// - **Rejection**: one by a person who may decide ends the request.
/// - **Membership** is that of the configuration at the time of the decision, as the service that authenticated the
///   person read it ([`Decide::config_revision`]).
/// - **Expiry**: decisions count until `expires_ms`, judged by the time at which the stream took them.
/// - A request that asks no group is rejected at once: nobody could ever approve it, and it must not pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Approval {
    request: Option<RequestApproval>,
    requested_ms: UnixMillis,
    votes: Vec<Vote>,
    end: Option<Ended>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Succeeded, rejected, expired or cancelled.
    pub outcome: Outcome,
    /// A sentence; names who decided.
    pub reason: String,
    /// When, Unix milliseconds.
    pub time_ms: i64,
}

impl Approval {
    /// What is asked; `None` before the request has arrived.
    pub fn request(&self) -> Option<&RequestApproval> {
        self.request.as_ref()
    }

    /// When the request came, Unix milliseconds; 0 before it has.
    pub fn requested_ms(&self) -> UnixMillis {
        self.requested_ms
    }

    /// What people have said, oldest first.
    pub fn votes(&self) -> &[Vote] {
        &self.votes
    }

    /// How it ended, if it did.
    pub fn end(&self) -> Option<&Ended> {
        self.end.as_ref()
    }

    /// How far each group has come.
    pub fn progress(&self) -> Vec<GroupProgress> {
        self.request.as_ref().map(|request| quorum::progress(request, &self.votes)).unwrap_or_default()
    }

    fn requested(&self, id: &str, request: RequestApproval, now: UnixMillis) -> Decision<ApprovalEvent> {
        if let Some(known) = &self.request {
            // Whoever asks again has not heard the answer.
            let effects = self.end.iter().map(|end| answer(id, known, &self.votes, end)).collect();
            return Decision { events: Vec::new(), effects };
        }
        let mut events = vec![event(approval_event::Kind::Requested(ApprovalRequested {
            request: Some(request.clone()),
            time_ms: now,
        }))];
        let mut effects = Vec::new();
        if let Some(withdrawn) = &self.end {
            effects.push(answer(id, &request, &[], withdrawn));
        } else if request.by.is_empty() {
            let reason = "nobody can approve this: it asks no group. Name one under `approve: { by: … }`".to_owned();
            let end = Ended { outcome: Outcome::Rejected, reason, time_ms: now };
            effects.push(answer(id, &request, &[], &end));
            events.push(ended(&end));
        }
        Decision { events, effects }
    }

    fn decided(&self, id: &str, decision: Decide, now: UnixMillis) -> Result<Decision<ApprovalEvent>, Refusal> {
        if let Some(end) = &self.end {
            return Err(refuse(codes::ALREADY_DECIDED, format!("this has ended {}: {}", at(end.time_ms), end.reason)));
        }
        let Some(request) = &self.request else {
            return Err(refuse(
                codes::UNKNOWN,
                format!("there is no request {id}; `cdflow explain` shows what a run waits for"),
            ));
        };
        if request.expires_ms > 0 && now >= request.expires_ms {
            return Err(refuse(codes::EXPIRED, format!("the time to decide ended {}", at(request.expires_ms))));
        }
        if let Some(vote) = self.votes.iter().find(|vote| vote.person == decision.person) {
            let what = if vote.approve { "approved" } else { "rejected" };
            return Err(refuse(
                codes::ALREADY_VOTED,
                format!("{} has {what} this already {}, and the first word counts", vote.person, at(vote.time_ms)),
            ));
        }
        check_eligible(request, &decision)?;
        let vote = Vote::new(request, &decision, now);
        let mut votes = self.votes.clone();
        votes.push(vote);
        let mut events =
            vec![event(approval_event::Kind::Decided(ApprovalDecided { decision: Some(decision), time_ms: now }))];
        let mut effects = Vec::new();
        if let Some(end) = outcome(request, &votes, now) {
            effects.push(answer(id, request, &votes, &end));
            events.push(ended(&end));
        }
        Ok(Decision { events, effects })
    }

    fn withdrawn(&self, id: &str, withdraw: &WithdrawApproval, now: UnixMillis) -> Decision<ApprovalEvent> {
        if self.end.is_some() {
            return Decision::nothing();
        }
        let reason = if withdraw.reason.is_empty() { "withdrawn by the run" } else { &withdraw.reason };
        self.ending(id, Ended { outcome: Outcome::Cancelled, reason: reason.to_owned(), time_ms: now })
    }

    fn tick(&self, id: &str, now: UnixMillis) -> Decision<ApprovalEvent> {
        match self.deadline() {
            Some(deadline) if now >= deadline => {
                let missing = self.progress().iter().filter(|group| !group.is_met()).map(describe).collect::<Vec<_>>();
                let reason = format!("nobody decided in time: {}", missing.join(", "));
                self.ending(id, Ended { outcome: Outcome::Expired, reason, time_ms: now })
            }
            _ => Decision::nothing(),
        }
    }

    fn ending(&self, id: &str, end: Ended) -> Decision<ApprovalEvent> {
        let effects = self.request.iter().map(|request| answer(id, request, &self.votes, &end)).collect();
        Decision { events: vec![ended(&end)], effects }
    }
}

impl Aggregate for Approval {
    const KIND: AggregateKind = AggregateKind::Approval;
    type Signal = ApprovalSignal;
    type Event = ApprovalEvent;

    fn decide(
        &self,
        id: &str,
        input: Input<ApprovalSignal>,
        now: UnixMillis,
    ) -> Result<Decision<ApprovalEvent>, Refusal> {
        use approval_signal::Kind;
        match input {
            Input::Signal(ApprovalSignal { kind: Some(Kind::Request(request)) }) => {
                Ok(self.requested(id, request, now))
            }
            Input::Signal(ApprovalSignal { kind: Some(Kind::Decide(decision)) }) => self.decided(id, decision, now),
            Input::Signal(ApprovalSignal { kind: Some(Kind::Withdraw(withdraw)) }) => {
                Ok(self.withdrawn(id, &withdraw, now))
            }
            Input::Signal(ApprovalSignal { kind: None }) => {
                Err(refuse(codes::EMPTY, "this signal asks nothing that this release of cdflow knows"))
            }
            Input::Tick => Ok(self.tick(id, now)),
            Input::TaskLost(_) => Ok(Decision::nothing()),
        }
    }

    fn apply(&mut self, event: &ApprovalEvent) {
        use approval_event::Kind;
        match &event.kind {
            Some(Kind::Requested(ApprovalRequested { request: Some(request), time_ms })) if self.request.is_none() => {
                self.request = Some(request.clone());
                self.requested_ms = *time_ms;
            }
            Some(Kind::Decided(ApprovalDecided { decision: Some(decision), time_ms })) => {
                if let Some(request) = &self.request {
                    self.votes.push(Vote::new(request, decision, *time_ms));
                }
            }
            Some(Kind::Ended(end)) if self.end.is_none() => {
                self.end = Some(Ended { outcome: end.outcome(), reason: end.reason.clone(), time_ms: end.time_ms });
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Option<UnixMillis> {
        let request = self.request.as_ref()?;
        (self.end.is_none() && request.expires_ms > 0).then_some(request.expires_ms)
    }

    fn outstanding_tasks(&self) -> Vec<String> {
        Vec::new()
    }

    fn is_finished(&self) -> bool {
        self.end.is_some()
    }

    fn checkpoint(&self) -> Vec<u8> {
        checkpoint::write(self)
    }

    fn restore(state: &[u8]) -> Result<Self, String> {
        checkpoint::read(state)
    }
}

fn check_eligible(request: &RequestApproval, decision: &Decide) -> Result<(), Refusal> {
    if !quorum::groups_that_count(request, decision).is_empty() {
        return Ok(());
    }
    let person = if decision.person.is_empty() { "somebody without a name" } else { &decision.person };
    if quorum::groups_asked(request, decision).next().is_some() {
        return Err(refuse(
            codes::INITIATOR,
            format!("{person} started this run, so others of {} decide", names(request)),
        ));
    }
    Err(refuse(codes::NOT_ELIGIBLE, format!("{person} may not decide this: it takes a member of {}", names(request))))
}

/// How the votes end the request, if they do.
fn outcome(request: &RequestApproval, votes: &[Vote], now: UnixMillis) -> Option<Ended> {
    if let Some(rejection) = votes.iter().find(|vote| !vote.approve) {
        let words = if rejection.comment.is_empty() { String::new() } else { format!(": {}", rejection.comment) };
        let reason = format!("rejected by {}{words}", rejection.person);
        return Some(Ended { outcome: Outcome::Rejected, reason, time_ms: now });
    }
    if quorum::progress(request, votes).iter().all(GroupProgress::is_met) {
        let people = votes.iter().map(|vote| vote.person.as_str()).collect::<Vec<_>>().join(", ");
        return Some(Ended { outcome: Outcome::Succeeded, reason: format!("approved by {people}"), time_ms: now });
    }
    None
}

/// Tells the run. The same end always makes the same signal, so telling twice is telling once.
fn answer(id: &str, request: &RequestApproval, votes: &[Vote], end: &Ended) -> Effect {
    let mut decisions: Vec<_> = votes.iter().map(Vote::line).collect();
    if !matches!(end.outcome, Outcome::Succeeded | Outcome::Rejected) || votes.is_empty() {
        decisions.push(end.reason.clone());
    }
    let answer = ApprovalAnswer {
        approval_id: id.to_owned(),
        stage_id: request.stage_id.clone(),
        step_id: request.step_id.clone(),
        outcome: end.outcome.into(),
        decisions,
    };
    let signal = Signal {
        id: format!("{id}.{}", end.outcome.word()),
        aggregate_id: request.run_id.clone(),
        payload: RunSignal { kind: Some(run_signal::Kind::Approval(answer)) }.encode_to_vec(),
        traceparent: request.traceparent.clone(),
        ..Default::default()
    };
    let send = SendSignal { aggregate: AggregateKind::Run.to_string(), signal: Some(signal) };
    Effect { kind: Some(effect::Kind::Signal(send)) }
}

fn event(kind: approval_event::Kind) -> ApprovalEvent {
    ApprovalEvent { kind: Some(kind) }
}

fn ended(end: &Ended) -> ApprovalEvent {
    event(approval_event::Kind::Ended(ApprovalEnded {
        outcome: end.outcome.into(),
        reason: end.reason.clone(),
        time_ms: end.time_ms,
    }))
}

fn describe(group: &GroupProgress) -> String {
    format!("{} of {} approvals by {}", group.approvals, group.minimum, group.group)
}

fn names(request: &RequestApproval) -> String {
    request.by.keys().map(String::as_str).collect::<Vec<_>>().join(" or ")
}

/// A moment, for a sentence. An impossible time is shown as the number it is.
fn at(time_ms: UnixMillis) -> String {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time_ms) * 1_000_000)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .map_or_else(|| format!("at {time_ms} ms"), |moment| format!("at {moment}"))
}
