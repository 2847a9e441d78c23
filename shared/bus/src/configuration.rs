//! The configuration of a project: one value with one revision, so that an apply is atomic.

use async_nats::jetstream::kv;
use bytes::Bytes;
use cdflow_protocol::{ids::token, subjects};
use futures::{Stream, StreamExt as _};

use crate::{Bus, Error};

/// Revision of a stored value; rises with every change.
pub type Revision = u64;

/// Where `cdflow apply` puts documents, and everybody else reads them.
#[derive(Clone)]
pub struct ConfigurationStore {
    bucket: kv::Store,
}

impl Bus {
    /// The store of configuration bundles.
    ///
    /// # Errors
    /// [`Error::NotInstalled`] when the bucket is missing.
    pub async fn configuration(&self) -> Result<ConfigurationStore, Error> {
        Ok(ConfigurationStore { bucket: self.bucket(subjects::CONFIG_BUCKET).await? })
    }

    /// A key-value bucket of the installation.
    ///
    /// # Errors
    /// [`Error::NotInstalled`] when it is missing.
    pub async fn bucket(&self, name: &str) -> Result<kv::Store, Error> {
        self.context()
            .get_key_value(name)
            .await
            .map_err(|e| Error::NotInstalled { reason: format!("bucket {name}: {e}") })
    }
}

impl ConfigurationStore {
    /// The bundle of a project, as stored.
    ///
    /// # Errors
    /// [`Error::Api`].
    pub async fn load(&self, project: &str) -> Result<Option<(Revision, Bytes)>, Error> {
        let entry = self.bucket.entry(token(project)).await.map_err(|e| Error::api("read configuration", e))?;
        Ok(entry.filter(|entry| entry.operation == kv::Operation::Put).map(|entry| (entry.revision, entry.value)))
    }

    /// Stores a bundle if `expected` is still the newest revision (0: there is none).
    ///
    /// # Errors
    /// [`Error::Conflict`] when somebody else was faster.
    pub async fn replace(&self, project: &str, expected: Revision, bundle: Bytes) -> Result<Revision, Error> {
        self.bucket.update(token(project), bundle, expected).await.map_err(|error| match error.kind() {
            kv::UpdateErrorKind::WrongLastRevision => {
                Error::Conflict { what: format!("the configuration of project {project}") }
            }
            _ => Error::api("store configuration", error),
        })
    }

    /// Every bundle of a project from the newest on, as it changes.
    ///
    /// # Errors
    /// [`Error::Api`].
    pub async fn watch(&self, project: &str) -> Result<impl Stream<Item = (Revision, Bytes)> + Send + use<>, Error> {
        let changes =
            self.bucket.watch_with_history(token(project)).await.map_err(|e| Error::api("watch configuration", e))?;
        Ok(changes.filter_map(async |entry| match entry {
            Ok(entry) if entry.operation == kv::Operation::Put => Some((entry.revision, entry.value)),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, "watching the configuration");
                None
            }
        }))
    }
}
