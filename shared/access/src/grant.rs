//! What a token is good for.

use std::fmt;

use cdflow_protocol::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::Denial;

/// Kinds of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKind {
    /// Exchanged for a session, once.
    LoginLink,
    /// A person in a browser or at a command line.
    Session,
    /// A person's programs; lasts until it expires or is revoked.
    Token,
    /// A CI system: may publish events and nothing else.
    Ci,
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LoginLink => "login link",
            Self::Session => "session",
            Self::Token => "token",
            Self::Ci => "CI token",
        })
    }
}

/// What is stored under the hash of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Whose it is: the name of a `Person`, or of a CI system for [`TokenKind::Ci`].
    pub person: String,
    /// What for.
    pub kind: TokenKind,
    /// When it was issued, Unix milliseconds.
    pub created: UnixMillis,
    /// From when on it is refused, Unix milliseconds; 0 is never.
    #[serde(default)]
    pub expires: UnixMillis,
}

impl Grant {
    /// Whether it holds at `now`.
    ///
    /// # Errors
    /// [`Denial::Expired`].
    pub fn check(&self, now: UnixMillis) -> Result<(), Denial> {
        if self.expires != 0 && now >= self.expires { Err(Denial::Expired) } else { Ok(()) }
    }
}
