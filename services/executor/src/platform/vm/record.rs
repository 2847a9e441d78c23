//! What is written down on a host.

use std::collections::BTreeMap;

use cdflow_protocol::v1::Release;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::process::Process;

/// A release as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ReleaseRecord {
    pub(super) version: String,
    pub(super) artifact: String,
    #[serde(default)]
    pub(super) digest: String,
    #[serde(default)]
    pub(super) environment: BTreeMap<String, String>,
}

/// Tells releases apart: the same version with another artifact or other variables is another release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ReleaseKey(String);

impl std::fmt::Display for ReleaseKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl ReleaseRecord {
    pub(super) fn key(&self) -> ReleaseKey {
        let mut hash = Sha256::new();
        let content = if self.digest.is_empty() { &self.artifact } else { &self.digest };
        let parts = [&self.version, content].into_iter().chain(self.environment.iter().flat_map(|(k, v)| [k, v]));
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        ReleaseKey(hex::encode(&hash.finalize()[..3]))
    }
}

impl From<&Release> for ReleaseRecord {
    fn from(release: &Release) -> Self {
        let Release { version, artifact, digest, environment } = release.clone();
        Self { version, artifact, digest, environment }
    }
}

impl From<ReleaseRecord> for Release {
    fn from(record: ReleaseRecord) -> Self {
        let ReleaseRecord { version, artifact, digest, environment } = record;
        Self { version, artifact, digest, environment }
    }
}

/// `instance.json`: written before the process is started, and again with its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct InstanceRecord {
    pub(super) release: ReleaseRecord,
    /// From 0, on its host.
    pub(super) index: u32,
    pub(super) port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<Process>,
}

/// `releases/<name>/.cdflow-release.json`: written last, so a directory without it is not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct UnpackedRecord {
    pub(super) artifact: String,
    /// SHA-256 of the archive in hexadecimal.
    pub(super) digest: String,
}

/// `fence.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct FenceRecord {
    pub(super) incarnation: u64,
    pub(super) sequence: u64,
    pub(super) delivery: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> ReleaseRecord {
        ReleaseRecord {
            version: "v1".into(),
            artifact: "file:/a".into(),
            digest: "sha256:1".into(),
            environment: BTreeMap::from([("A".into(), "b".into())]),
        }
    }

    #[test]
    fn other_variables_or_another_artifact_make_another_release() {
        let key = release().key();
        assert_eq!(ReleaseRecord { artifact: "file:/moved".into(), ..release() }.key(), key);
        assert_ne!(ReleaseRecord { digest: "sha256:2".into(), ..release() }.key(), key);
        assert_ne!(ReleaseRecord { environment: BTreeMap::new(), ..release() }.key(), key);
        assert_ne!(ReleaseRecord { digest: String::new(), ..release() }.key(), key);
    }
}
