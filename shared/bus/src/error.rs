//! What can go wrong between a service and the bus.

use async_nats::jetstream::{context::PublishErrorKind, stream::ConsumerErrorKind};

/// An error of the bus; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or a refused one.
    #[error(
        "CDF-2001: cannot connect to NATS at {url}: {reason}. Is the server running, and are the credentials right?"
    )]
    Connect {
        /// Without user information.
        url: String,
        /// As the client says it.
        reason: String,
    },
    /// The server lacks what the protocol stands on.
    #[error(
        "CDF-2002: nats-server {version} is too old: 2.12 or later is needed (conditional appends come before duplicate checks there), 2.15 is recommended"
    )]
    ServerTooOld {
        /// As the server reports it.
        version: String,
    },
    /// Streams are missing.
    #[error(
        "CDF-2003: this NATS server holds no cdflow installation: {reason}. Run `cdflow install` once, or `cdflow up` for a private server"
    )]
    NotInstalled {
        /// What is missing.
        reason: String,
    },
    /// Streams belong to another installation, or to other settings.
    #[error("CDF-2004: the streams on this NATS server do not fit: {reason}")]
    Mismatch {
        /// What differs.
        reason: String,
    },
    /// A stream is full.
    #[error("CDF-2005: stream {stream} is full: input from outside is refused until its consumers catch up")]
    Full {
        /// Its name.
        stream: &'static str,
    },
    /// A write was not confirmed in time. It may have been stored.
    #[error("CDF-2006: no confirmation for {subject}: {reason}")]
    Unconfirmed {
        /// Where it was sent.
        subject: String,
        /// As the client says it.
        reason: String,
        /// `false` when it is certain that nothing was stored: there was no stream to take it.
        maybe_stored: bool,
    },
    /// Another writer was faster.
    #[error("CDF-2007: {what} has changed meanwhile: read it again and repeat")]
    Conflict {
        /// What was to be written.
        what: String,
    },
    /// A request to the JetStream API failed.
    #[error("CDF-2008: {what}: {reason}")]
    Api {
        /// What was tried.
        what: String,
        /// As the client says it.
        reason: String,
    },
}

impl Error {
    pub(crate) fn api(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Api { what: what.into(), reason: reason.to_string() }
    }

    /// Whether the same call may go through later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Full { .. } | Self::Unconfirmed { .. } | Self::Api { .. })
    }
}

/// Whether it is unknown if a failed publish was stored: the same bytes with the same id must be sent again.
pub(crate) fn is_ambiguous(kind: PublishErrorKind) -> bool {
    matches!(kind, PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe | PublishErrorKind::StreamNotFound)
}

impl From<async_nats::error::Error<ConsumerErrorKind>> for Error {
    fn from(error: async_nats::error::Error<ConsumerErrorKind>) -> Self {
        Self::api("consumer", error)
    }
}
