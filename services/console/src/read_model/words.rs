//! Enumerations of the contract in the words of the API.

use cdflow_protocol::v1;

use crate::api::{Actor, Basis, Figure, Outcome, VerdictKind, VerdictView};

/// `None` while there is none.
pub(crate) fn outcome(value: i32) -> Option<Outcome> {
    Some(match v1::Outcome::try_from(value).ok()? {
        v1::Outcome::Unspecified => return None,
        v1::Outcome::Succeeded => Outcome::Succeeded,
        v1::Outcome::Failed => Outcome::Failed,
        v1::Outcome::RolledBack => Outcome::RolledBack,
        v1::Outcome::Skipped => Outcome::Skipped,
        v1::Outcome::Ignored => Outcome::Ignored,
        v1::Outcome::Cancelled => Outcome::Cancelled,
        v1::Outcome::Rejected => Outcome::Rejected,
        v1::Outcome::Expired => Outcome::Expired,
        v1::Outcome::Superseded => Outcome::Superseded,
    })
}

/// `timeout`, `executor-lost`…; `None` when there was no error.
pub(crate) fn error_class(value: i32) -> Option<String> {
    let class = v1::ErrorClass::try_from(value).ok()?;
    if class == v1::ErrorClass::Unspecified {
        return None;
    }
    Some(class.as_str_name().trim_start_matches("ERROR_CLASS_").to_ascii_lowercase().replace('_', "-"))
}

pub(crate) fn actor(actor: Option<&v1::Actor>) -> Actor {
    actor.map(|actor| Actor { kind: actor.kind.clone(), name: actor.name.clone() }).unwrap_or_default()
}

pub(crate) fn verdict(verdict: &v1::Verdict) -> VerdictView {
    VerdictView {
        kind: match verdict.kind() {
            v1::VerdictKind::Pass => VerdictKind::Pass,
            v1::VerdictKind::Fail => VerdictKind::Fail,
            v1::VerdictKind::Inconclusive | v1::VerdictKind::Unspecified => VerdictKind::Inconclusive,
        },
        basis: match verdict.basis() {
            v1::Basis::Control => Basis::Control,
            v1::Basis::History => Basis::History,
            v1::Basis::Guards | v1::Basis::Unspecified => Basis::Guards,
        },
        sentence: verdict.sentence.clone(),
        figures: verdict
            .figures
            .iter()
            .map(|figure| Figure { name: figure.name.clone(), value: figure.value.clone() })
            .collect(),
    }
}

impl Outcome {
    /// As in the API and in the pipeline language.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled-back",
            Self::Skipped => "skipped",
            Self::Ignored => "ignored",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
        }
    }
}

impl crate::api::RunStatus {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Watching => "watching",
            Self::RollingBack => "rolling-back",
            Self::Finished => "finished",
        }
    }
}

impl crate::api::StageStatus {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Watching => "watching",
            Self::RollingBack => "rolling-back",
            Self::Finished => "finished",
        }
    }
}

impl crate::api::StepStatus {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
            Self::Finished => "finished",
        }
    }
}

impl VerdictKind {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl Basis {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::History => "history",
            Self::Guards => "guards",
        }
    }
}
