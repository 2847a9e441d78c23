//! Why somebody is not let in.

use crate::TokenKind;

/// Errors of this crate. None of them holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The token does not open this door.
    #[error("CDF-6001: {0}")]
    Denied(#[from] Denial),
    /// The store of tokens did not answer.
    #[error("CDF-6002: the tokens cannot be read or written now: {0}")]
    Store(String),
    /// The operating system gave no random numbers.
    #[error("CDF-6003: the operating system gave no random numbers: {0}")]
    NoRandomness(String),
}

/// Why a token was refused, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Nothing was presented.
    #[error("no token: send `Authorization: Bearer <token>`; `cdflow login` gives one")]
    Missing,
    /// Not of the form of a token.
    #[error("this is no cdflow token: one begins with `cdf_` and has 47 characters; was it copied whole?")]
    Malformed,
    /// Unknown: never issued, revoked, used up or long expired.
    #[error("this token is not known: it was revoked, used before or never issued. `cdflow login` gives a new one")]
    Unknown,
    /// Too old.
    #[error("this token has expired. `cdflow login` gives a new one")]
    Expired,
    /// Good for something else.
    #[error("a {presented} cannot be used here")]
    WrongKind {
        /// What was presented.
        presented: TokenKind,
    },
}
