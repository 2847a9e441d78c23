//! Where hashes of tokens are kept.

use futures::future::BoxFuture;

use cdflow_protocol::UnixMillis;

use crate::{Error, Grant, TokenHash};

/// A store of grants by the hash of their token. Shared by all instances of all services.
pub trait TokenStore: Send + Sync + 'static {
    /// Keeps a grant. `now` tells a store that forgets by itself how long to keep it. After a crash the grant is stored
    /// or not; nobody has been shown the token yet, so either is fine.
    fn insert<'a>(&'a self, hash: &'a TokenHash, grant: &'a Grant, now: UnixMillis)
    -> BoxFuture<'a, Result<(), Error>>;

    /// The grant of a token, if it is there; it may have expired.
    fn find<'a>(&'a self, hash: &'a TokenHash) -> BoxFuture<'a, Result<Option<Grant>, Error>>;

    /// Removes a grant and returns it to exactly one of several callers; the others get `None`.
    fn take<'a>(&'a self, hash: &'a TokenHash) -> BoxFuture<'a, Result<Option<Grant>, Error>>;

    /// Everything that is kept.
    fn list(&self) -> BoxFuture<'_, Result<Vec<(TokenHash, Grant)>, Error>>;
}
