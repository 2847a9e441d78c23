//! The streams, and what their metadata say.

use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::{
    Context, ErrorCode,
    context::{GetStreamError, GetStreamErrorKind},
    kv, object_store,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream},
};
use cdflow_protocol::{PartitionCount, ids::PARTITION_HASH, streams, streams::metadata, subjects};

use crate::{Bus, Error, Options, connection};

/// What the streams of a server say about themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Random, made when the streams were created.
    pub id: String,
    /// Partitions of each aggregate kind.
    pub partitions: PartitionCount,
    /// Raised by every restore of the journal.
    pub incarnation: u64,
}

/// Settings that are fixed when an installation is created.
#[derive(Debug, Clone)]
pub struct NewInstallation {
    /// Name of the installation, kept in the streams; any text.
    pub id: String,
    /// 1 for a single server (larger groups, fewer disk syncs), 16 for a cluster.
    pub partitions: PartitionCount,
    /// Copies of each stream: 1, 3 or 5.
    pub replicas: usize,
    /// Most bytes that all streams may take together: keep it below the free disk, so that a full disk is an error and
    /// not a hang. The server reserves them at once.
    pub max_bytes: i64,
}

impl Default for NewInstallation {
    fn default() -> Self {
        Self {
            id: "cdflow".into(),
            partitions: PartitionCount::new(1).unwrap_or_else(|| unreachable!("one is not zero")),
            replicas: 1,
            max_bytes: 4 << 30,
        }
    }
}

/// Creates what is missing; an existing installation is left as it is.
///
/// # Errors
/// As [`crate::Bus::connect`], and [`Error::Mismatch`] when there is one with other settings.
pub async fn install(options: &Options, new: &NewInstallation) -> Result<Installation, Error> {
    let (client, _) = connection::connect(options).await?;
    let context = connection::context(client);
    match read(&context).await {
        Ok(found) if found.partitions != new.partitions => {
            return Err(Error::Mismatch {
                reason: format!(
                    "they have {} partitions, not {}: the number is fixed when an installation is created",
                    found.partitions.get(),
                    new.partitions.get()
                ),
            });
        }
        Ok(_) | Err(Error::NotInstalled { .. }) => {}
        Err(error) => return Err(error),
    }
    for config in configs(new) {
        let name = config.name.clone();
        if context.get_stream(&name).await.is_err() {
            context.create_stream(config).await.map_err(|e| Error::api(format!("create stream {name}"), e))?;
        }
    }
    for config in buckets(new) {
        let name = config.bucket.clone();
        if context.get_key_value(&name).await.is_err() {
            context.create_key_value(config).await.map_err(|e| Error::api(format!("create bucket {name}"), e))?;
        }
    }
    if context.get_object_store(subjects::SNAPSHOTS_BUCKET).await.is_err() {
        let config = object_store::Config {
            bucket: subjects::SNAPSHOTS_BUCKET.into(),
            num_replicas: new.replicas,
            ..Default::default()
        };
        context.create_object_store(config).await.map_err(|e| Error::api("create object store", e))?;
    }
    read(&context).await
}

fn configs(new: &NewInstallation) -> Vec<Config> {
    let day = Duration::from_secs(24 * 3_600);
    let base = |name: &str, subject: &str| Config {
        name: name.into(),
        subjects: vec![subject.into()],
        num_replicas: new.replicas,
        storage: StorageType::File,
        duplicate_window: Duration::from_secs(120),
        ..Default::default()
    };
    let percent = |share: i64| new.max_bytes / 100 * share;
    let identity = HashMap::from([
        (metadata::INSTALLATION.to_owned(), new.id.clone()),
        (metadata::PARTITIONS.to_owned(), new.partitions.get().to_string()),
        (metadata::HASH.to_owned(), PARTITION_HASH.to_owned()),
        (metadata::INCARNATION.to_owned(), "1".to_owned()),
    ]);
    vec![
        Config { max_age: 14 * day, max_bytes: percent(10), ..base(streams::CI, subjects::CI) },
        // Neither may forget by age, and full must be an error (rule 11).
        Config {
            retention: RetentionPolicy::WorkQueue,
            discard: DiscardPolicy::New,
            max_bytes: percent(10),
            ..base(streams::SIGNALS, "cdflow.signal.*.*")
        },
        tasks(new.replicas),
        Config { max_age: 30 * day, max_bytes: percent(20), ..base(streams::LOGS, "cdflow.log.>") },
        Config { max_age: 30 * day, max_bytes: percent(10), ..base(streams::EVENTS, "cdflow.events.>") },
        Config { max_age: 30 * day, max_bytes: percent(5), ..base(streams::DEAD, "cdflow.dead.>") },
        // Last: it carries the identity, so an installation that was interrupted is completed by the next try.
        Config {
            discard: DiscardPolicy::New,
            max_bytes: percent(45),
            deny_delete: true,
            allow_direct: true,
            metadata: identity,
            ..base(streams::JOURNAL, "cdflow.journal.*.*")
        },
    ]
}

fn tasks(replicas: usize) -> Config {
    Config {
        name: streams::TASKS.into(),
        subjects: vec!["cdflow.task.*.*.*".into()],
        num_replicas: replicas,
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::Memory,
        duplicate_window: Duration::from_secs(120),
        ..Default::default()
    }
}

impl Bus {
    /// Creates TASKS again when it is gone: a single server forgets a memory stream when it restarts (rule 5 of the
    /// journal protocol). Whoever needs the stream first may call this; calls at the same time agree.
    ///
    /// # Errors
    /// [`Error::Api`] when the server does not answer, [`Error::NotInstalled`] when there is no JOURNAL either.
    pub async fn ensure_tasks(&self) -> Result<Stream, Error> {
        let context = self.context();
        match context.get_stream(streams::TASKS).await {
            Ok(stream) => return Ok(stream),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(Error::api("read stream TASKS", error)),
        }
        let journal =
            context.get_stream(streams::JOURNAL).await.map_err(|e| Error::NotInstalled { reason: e.to_string() })?;
        let replicas = journal.cached_info().config.num_replicas;
        context.get_or_create_stream(tasks(replicas)).await.map_err(|e| Error::api("create stream TASKS", e))
    }
}

impl Bus {
    /// Creates the bucket LEASES again when it is gone, for the same reason as [`Bus::ensure_tasks`].
    ///
    /// # Errors
    /// As [`Bus::ensure_tasks`].
    pub async fn ensure_leases(&self) -> Result<(), Error> {
        let context = self.context();
        match context.get_stream(format!("KV_{}", subjects::LEASES_BUCKET)).await {
            Ok(_) => return Ok(()),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(Error::api("read bucket LEASES", error)),
        }
        let journal =
            context.get_stream(streams::JOURNAL).await.map_err(|e| Error::NotInstalled { reason: e.to_string() })?;
        let replicas = journal.cached_info().config.num_replicas;
        match context.create_key_value(leases(replicas)).await {
            Ok(_) => Ok(()),
            // Somebody else was faster.
            Err(_) if context.get_key_value(subjects::LEASES_BUCKET).await.is_ok() => Ok(()),
            Err(error) => Err(Error::api("create bucket LEASES", error)),
        }
    }
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn buckets(new: &NewInstallation) -> Vec<kv::Config> {
    vec![
        kv::Config {
            bucket: subjects::CONFIG_BUCKET.into(),
            history: 64,
            max_value_size: 900 << 10,
            num_replicas: new.replicas,
            ..Default::default()
        },
        leases(new.replicas),
        kv::Config {
            bucket: subjects::ACCESS_BUCKET.into(),
            num_replicas: new.replicas,
            limit_markers: Some(Duration::from_secs(60)),
            ..Default::default()
        },
    ]
}

/// Derived: who owns what is decided anew after a restart.
fn leases(replicas: usize) -> kv::Config {
    kv::Config {
        bucket: subjects::LEASES_BUCKET.into(),
        storage: StorageType::Memory,
        num_replicas: replicas,
        limit_markers: Some(Duration::from_secs(60)),
        ..Default::default()
    }
}

pub(crate) async fn read(context: &Context) -> Result<Installation, Error> {
    let stream =
        context.get_stream(streams::JOURNAL).await.map_err(|e| Error::NotInstalled { reason: e.to_string() })?;
    let found = &stream.cached_info().config.metadata;
    let get = |key: &str| {
        found
            .get(key)
            .cloned()
            .ok_or_else(|| Error::Mismatch { reason: format!("JOURNAL has no {key} in its metadata") })
    };
    let hash = get(metadata::HASH)?;
    if hash != PARTITION_HASH {
        return Err(Error::Mismatch { reason: format!("they partition by {hash}, this release by {PARTITION_HASH}") });
    }
    let number = |key: &str| {
        get(key)?.parse::<u64>().map_err(|_| Error::Mismatch { reason: format!("{key} of JOURNAL is not a number") })
    };
    let partitions = u32::try_from(number(metadata::PARTITIONS)?).ok().and_then(PartitionCount::new);
    Ok(Installation {
        id: get(metadata::INSTALLATION)?,
        partitions: partitions.ok_or_else(|| Error::Mismatch { reason: "the partition count is zero".into() })?,
        incarnation: number(metadata::INCARNATION)?,
    })
}
