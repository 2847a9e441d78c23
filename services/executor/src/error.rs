//! Why a verb did not go well.

use cdflow_protocol::v1::{ErrorClass, Fence};

/// Each says what happened, where, and what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The target has seen a later attempt.
    #[error(
        "CDF-5001: {target} has been changed by a later attempt ({seen}); this one ({ours}) is out of date and changes nothing more"
    )]
    Fenced {
        /// Which part of the target.
        target: String,
        /// The fence found there.
        seen: String,
        /// The fence of this attempt.
        ours: String,
    },
    /// Another executor holds the lock of the target.
    #[error(
        "CDF-5002: another executor has been changing {target} for {seconds} s. It may be paused: look for it, and try again"
    )]
    Busy {
        /// Which part of the target.
        target: String,
        /// How long this one has waited.
        seconds: u64,
    },
    /// The task must stop, or is another worker's by now.
    #[error("CDF-5003: stopped before the next change: the task is no longer this executor's")]
    Stopped,
    /// The artifact cannot be read.
    #[error("CDF-5004: cannot fetch {url}: {reason}")]
    Unreachable {
        /// Without user information.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// The artifact is not what was announced.
    #[error(
        "CDF-5005: {url} has the digest sha256:{found}, expected {expected}. It was replaced or damaged: publish it again, or correct the digest"
    )]
    Digest {
        /// Without user information.
        url: String,
        /// As announced.
        expected: String,
        /// Of what was fetched, in hexadecimal.
        found: String,
    },
    /// The artifact cannot be unpacked safely.
    #[error("CDF-5006: {url} is refused: {reason}")]
    Archive {
        /// Without user information.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A process ended instead of becoming ready.
    #[error("CDF-5007: {instance} exited before it was ready. Its last lines:\n{log}")]
    Exited {
        /// Which.
        instance: String,
        /// The end of its output.
        log: String,
    },
    /// A process did not become ready in time.
    #[error("CDF-5008: {instance} is not ready after {seconds:.1} s: {answer}. Its last lines:\n{log}")]
    NotReady {
        /// Which.
        instance: String,
        /// How long it had.
        seconds: f64,
        /// What the ready path said last.
        answer: String,
        /// The end of its output.
        log: String,
    },
    /// All ports are taken.
    #[error("CDF-5009: no free port in {from}-{to} on {host}: widen `ports` of the infrastructure or stop something")]
    NoPort {
        /// Where.
        host: String,
        /// First port.
        from: u16,
        /// Last port.
        to: u16,
    },
    /// The router does not answer.
    #[error("CDF-5010: HAProxy does not answer at {admin}: {reason}. Is it running, and is its admin socket there?")]
    RouterUnreachable {
        /// The admin socket.
        admin: String,
        /// What the system says.
        reason: String,
    },
    /// The router refuses.
    #[error("CDF-5011: HAProxy at {admin} refused `{command}`: {answer}")]
    RouterRefused {
        /// The admin socket.
        admin: String,
        /// What was asked.
        command: String,
        /// What it said.
        answer: String,
    },
    /// A file operation failed.
    #[error("CDF-5012: {what}: {reason}")]
    Host {
        /// What was tried, with the path.
        what: String,
        /// What the system says.
        reason: String,
    },
    /// The task or the target makes no sense.
    #[error("CDF-5013: {reason}")]
    Configuration {
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// There is nothing to give traffic to.
    #[error("CDF-5014: no instance of {release} is running for {service}: stage it first")]
    NothingStaged {
        /// The version.
        release: String,
        /// The service.
        service: String,
    },
}

impl Error {
    /// The class that pipelines match on.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Fenced { .. } => ErrorClass::Fenced,
            Self::Busy { .. } | Self::Stopped => ErrorClass::Transient,
            Self::Unreachable { .. } | Self::RouterUnreachable { .. } => ErrorClass::Connectivity,
            Self::Digest { .. } | Self::Archive { .. } => ErrorClass::Input,
            Self::Exited { .. } | Self::NotReady { .. } => ErrorClass::Verification,
            Self::RouterRefused { .. } | Self::Configuration { .. } => ErrorClass::Configuration,
            Self::NoPort { .. } | Self::Host { .. } | Self::NothingStaged { .. } => ErrorClass::Infrastructure,
        }
    }

    pub(crate) fn host(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Host { what: what.into(), reason: reason.to_string() }
    }

    pub(crate) fn configuration(reason: impl Into<String>) -> Self {
        Self::Configuration { reason: reason.into() }
    }

    pub(crate) fn fenced(target: &str, seen: &Fence, ours: &Fence) -> Self {
        let show = |fence: &Fence| format!("{}.{}.{}", fence.incarnation, fence.sequence, fence.delivery);
        Self::Fenced { target: target.into(), seen: show(seen), ours: show(ours) }
    }
}
