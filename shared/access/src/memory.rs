//! Tokens that are gone when the process ends.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cdflow_protocol::UnixMillis;
use futures::future::{BoxFuture, ready};

use crate::{Error, Grant, TokenHash, TokenStore};

/// A [`TokenStore`] in memory: for tests, and for a suite that runs in one process without a bus.
#[derive(Default)]
pub struct MemoryTokens {
    grants: Mutex<Vec<(TokenHash, Grant)>>,
}

impl MemoryTokens {
    fn grants(&self) -> MutexGuard<'_, Vec<(TokenHash, Grant)>> {
        // No code that can panic runs while it is held.
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenStore for MemoryTokens {
    fn insert<'a>(
        &'a self,
        hash: &'a TokenHash,
        grant: &'a Grant,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let mut grants = self.grants();
        grants.retain(|(_, kept)| kept.check(now).is_ok());
        grants.push((*hash, grant.clone()));
        Box::pin(ready(Ok(())))
    }

    fn find<'a>(&'a self, hash: &'a TokenHash) -> BoxFuture<'a, Result<Option<Grant>, Error>> {
        let found = self.grants().iter().find(|(known, _)| known == hash).map(|(_, grant)| grant.clone());
        Box::pin(ready(Ok(found)))
    }

    fn take<'a>(&'a self, hash: &'a TokenHash) -> BoxFuture<'a, Result<Option<Grant>, Error>> {
        let mut grants = self.grants();
        let found = grants.iter().position(|(known, _)| known == hash).map(|index| grants.swap_remove(index).1);
        Box::pin(ready(Ok(found)))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<(TokenHash, Grant)>, Error>> {
        Box::pin(ready(Ok(self.grants().clone())))
    }
}
