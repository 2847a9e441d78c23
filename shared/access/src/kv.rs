//! Tokens in the bucket `ACCESS`.

use std::time::Duration;

use async_nats::jetstream::kv;
use cdflow_bus::Bus;
use cdflow_protocol::{UnixMillis, subjects};
use futures::{StreamExt as _, future::BoxFuture};

use crate::{Error, Grant, TokenHash, TokenStore};

/// A [`TokenStore`] in the key-value bucket [`subjects::ACCESS_BUCKET`]: key is the hash in hexadecimal, value the grant
/// in JSON. The server forgets what has expired.
#[derive(Clone)]
pub struct KvTokens {
    bucket: kv::Store,
}

impl KvTokens {
    /// The store of an installation.
    ///
    /// # Errors
    /// [`cdflow_bus::Error::NotInstalled`] when the bucket is missing.
    pub async fn open(bus: &Bus) -> Result<Self, cdflow_bus::Error> {
        Ok(Self { bucket: bus.bucket(subjects::ACCESS_BUCKET).await? })
    }

    /// The grant under a key with its revision; `None` after a removal and for what nobody can read.
    async fn entry(&self, hash: &TokenHash) -> Result<Option<(u64, Grant)>, Error> {
        let entry = self.bucket.entry(hash.to_hex()).await.map_err(unavailable)?;
        Ok(entry
            .filter(|entry| entry.operation == kv::Operation::Put)
            .filter(|entry| TokenHash::from_hex(&entry.key).as_ref() == Some(hash))
            .and_then(|entry| Some((entry.revision, serde_json::from_slice(&entry.value).ok()?))))
    }
}

impl TokenStore for KvTokens {
    fn insert<'a>(
        &'a self,
        hash: &'a TokenHash,
        grant: &'a Grant,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let value = serde_json::to_vec(grant).map_err(unavailable)?.into();
            let key = hash.to_hex();
            let lifetime = u64::try_from(grant.expires.saturating_sub(now)).unwrap_or(0);
            if grant.expires == 0 {
                self.bucket.create(key, value).await.map_err(unavailable)?;
            } else {
                // The server counts whole seconds, at least one; the exact moment is checked with the grant.
                let seconds = Duration::from_secs(lifetime.div_ceil(1_000).max(1));
                self.bucket.create_with_ttl(key, value, seconds).await.map_err(unavailable)?;
            }
            Ok(())
        })
    }

    fn find<'a>(&'a self, hash: &'a TokenHash) -> BoxFuture<'a, Result<Option<Grant>, Error>> {
        Box::pin(async move { Ok(self.entry(hash).await?.map(|(_, grant)| grant)) })
    }

    fn take<'a>(&'a self, hash: &'a TokenHash) -> BoxFuture<'a, Result<Option<Grant>, Error>> {
        Box::pin(async move {
            let Some((revision, grant)) = self.entry(hash).await? else { return Ok(None) };
            match self.bucket.delete_expect_revision(hash.to_hex(), Some(revision)).await {
                Ok(()) => Ok(Some(grant)),
                Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => Ok(None),
                Err(error) => Err(unavailable(error)),
            }
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<(TokenHash, Grant)>, Error>> {
        Box::pin(async move {
            let mut keys = self.bucket.keys().await.map_err(unavailable)?;
            let mut found = Vec::new();
            while let Some(key) = keys.next().await {
                let Some(hash) = TokenHash::from_hex(&key.map_err(unavailable)?) else { continue };
                if let Some((_, grant)) = self.entry(&hash).await? {
                    found.push((hash, grant));
                }
            }
            Ok(found)
        })
    }
}

fn unavailable(reason: impl std::fmt::Display) -> Error {
    Error::Store(reason.to_string())
}
