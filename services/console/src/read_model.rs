//! The read model: JOURNAL, folded into what people see, in SQL.
//!
//! # Promise
//! - A commit is projected exactly once: the position of its subject advances by compare-and-set in the transaction that
//!   writes what follows from it, so a crash leaves both or neither and two consoles on one database do not double
//!   anything (rule 20 of the journal protocol).
//! - The database can be deleted: what JOURNAL still holds is projected again and gives the same views.
//! - A stream that does not continue what was projected stops the projector with an error that says so (rule 7); nothing
//!   is guessed.

mod approval;
mod board;
mod changes;
mod database;
mod evidence;
mod explain;
mod history;
mod projection;
mod projector;
mod queries;
mod run;
mod titles;
mod words;

pub(crate) use board::{Known, board};
pub(crate) use changes::{Changes, Topic};
pub use database::{Database, archived_commits};
pub(crate) use explain::explain;
pub(crate) use projection::Answer;
pub use projection::positions as archived_positions;
pub(crate) use projector::{Progress, Projector};
pub(crate) use queries::RunRef;
pub(crate) use titles::{duration, list};

/// Errors of the read model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be opened, read or written.
    #[error("CDF-4001: the read model cannot be {what}: {reason}")]
    Database {
        /// Opened, read or written.
        what: &'static str,
        /// As the driver says it.
        reason: String,
    },
    /// JOURNAL cannot be read, or is not the one that was projected: then a person has to look.
    #[error(transparent)]
    Journal(#[from] cdflow_journal::Error),
}

impl Error {
    pub(crate) fn read(error: sqlx::Error) -> Self {
        Self::Database { what: "read", reason: error.to_string() }
    }

    pub(crate) fn write(error: sqlx::Error) -> Self {
        Self::Database { what: "written", reason: error.to_string() }
    }
}
