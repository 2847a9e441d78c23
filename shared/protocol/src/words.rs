//! Enumerations in the words of the pipeline language.

use crate::v1::Outcome;

impl Outcome {
    /// As people and expressions write it, such as `rolled-back`; `unknown` where none is given.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
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
