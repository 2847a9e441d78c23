//! Why a command failed, and its exit code. The codes are a public interface: scripts stand on them.

use std::process::ExitCode;

use cdflow_console::api::Problem;

/// A failure that a script may want to tell from others.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The run that was followed did not end well.
    #[error("{0}")]
    RunFailed(String),
    /// The documents have errors; they have been shown.
    #[error("{0}")]
    Invalid(String),
    /// The journal is not what it was; the places have been shown.
    #[error("{0}")]
    Damaged(String),
    /// The console or the aggregate said no.
    #[error("{}: {}", .0.title, .0.detail)]
    Refused(Box<Problem>),
    /// No session, or an ended one.
    #[error("you are not logged in, or your session has ended: open a login link with `cdflow login LINK`")]
    Unknown,
    /// Nobody answers.
    #[error(
        "nobody answers at {server}: {reason}. Is the suite running (`cdflow up`)? `--server URL` names another one"
    )]
    Unreachable {
        /// Where.
        server: String,
        /// What the connection says.
        reason: String,
    },
    /// Something that is no console answered.
    #[error("the answer has status {status} and is not from a cdflow console")]
    Unexpected {
        /// HTTP status.
        status: u16,
    },
}

impl Failure {
    /// 1 the run failed or the journal is damaged, 2 wrong usage or documents, 3 refused, 4 not logged in, 5 no answer.
    fn code(&self) -> u8 {
        match self {
            Self::RunFailed(_) | Self::Damaged(_) => 1,
            Self::Invalid(_) => 2,
            Self::Refused(_) => 3,
            Self::Unknown => 4,
            Self::Unreachable { .. } | Self::Unexpected { .. } => 5,
        }
    }
}

/// Shows an error on standard error and chooses the exit code; 1 for what has no code of its own.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let failure = error.downcast_ref::<Failure>();
    crate::show::error(&format!("{error:#}"));
    if let Some(Failure::Refused(problem)) = failure {
        for place in &problem.diagnostics {
            crate::show::diagnostic(place);
        }
    }
    ExitCode::from(failure.map_or(1, Failure::code))
}
