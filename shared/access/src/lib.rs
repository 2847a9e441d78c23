//! People who are known: who is there, which groups they are in, and the tokens that prove who is asking.
//!
//! # Promise
//! - A token is 256 random bits and is shown once, to whoever asked for it. Only its SHA-256 is stored, so a copy of the
//!   store opens nothing; since the input is random, an attacker gains nothing from a slow hash. Hashes are compared in
//!   constant time, and neither token nor hash appears in `Debug` output, an error or a log.
//! - A login link works once: of two requests with the same link one gets a session and the other is refused. A crash in
//!   the middle of an exchange can use up the link without a session; the person asks for another.
//! - What has expired or was revoked is refused from that moment on, on every instance that shares the store.
//!
//! ```
//! use std::time::Duration;
//! use cdflow_access::{Access, MemoryTokens, TokenKind};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let access = Access::new(MemoryTokens::default());
//! let now = 1_790_000_000_000;
//! let link = access.issue(TokenKind::LoginLink, "ana", Some(Duration::from_secs(600)), now).await?;
//! let (session, _) = access.exchange(link.expose(), Duration::from_secs(12 * 3_600), now).await?;
//! assert_eq!(access.authenticate(session.expose(), now).await?.person, "ana");
//! # Ok::<(), cdflow_access::Error>(()) }).unwrap();
//! ```

mod access;
mod bearer;
mod directory;
mod error;
mod grant;
mod kv;
mod memory;
mod store;
mod token;

pub use access::Access;
pub use bearer::bearer_token;
pub use directory::{Directory, Group, Person};
pub use error::{Denial, Error};
pub use grant::{Grant, TokenKind};
pub use kv::KvTokens;
pub use memory::MemoryTokens;
pub use store::TokenStore;
pub use token::{Token, TokenHash};
