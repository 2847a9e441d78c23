//! The database behind the read model.

use std::{path::Path, sync::Once, time::Duration};

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use sqlx::{
    AnyPool, Executor as _, Row as _, SqlSafeStr as _,
    any::AnyPoolOptions,
    migrate::{Migration, MigrationType, Migrator},
};

use super::Error;

/// Connections to the read model. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    pool: AnyPool,
}

/// One commit as it was stored in JOURNAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedCommit {
    /// Subject of JOURNAL.
    pub subject: String,
    /// Stream sequence.
    pub sequence: u64,
    /// SHA-256 of `body`, hexadecimal.
    pub hash: String,
    /// The encoded `Commit`, byte for byte.
    pub body: Bytes,
}

impl Database {
    /// Opens the SQLite file at `path`, which is created when it is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn open(path: &Path) -> Result<Self, Error> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let failed = |error: &dyn std::fmt::Display| Error::Database {
            what: "opened",
            reason: format!("{error} ({})", path.display()),
        };
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        }
        let url = format!("sqlite://{}?mode=rwc", percent_encoded(&path.to_string_lossy()));
        let pool = AnyPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(10))
            .after_connect(|connection, _| {
                Box::pin(async move {
                    // Readers never wait for the projector. A power cut can lose the newest transactions, never their
                    // order: what they held is projected again from where the positions then are.
                    connection.execute("PRAGMA journal_mode = WAL").await?;
                    connection.execute("PRAGMA synchronous = NORMAL").await?;
                    connection.execute("PRAGMA busy_timeout = 10000").await?;
                    Ok(())
                })
            })
            .connect(&url)
            .await
            .map_err(|error| failed(&error))?;
        let migration = |version, name: &'static str, sql: &'static str| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        };
        let tables = include_str!("../../migrations/sqlite/0001_read_model.sql");
        Migrator::with_migrations(vec![migration(1, "read model", tables)])
            .run(&pool)
            .await
            .map_err(|error| failed(&error))?;
        Ok(Self { pool })
    }

    /// The connections.
    pub fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Waits until all connections are closed.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Everything that was ever projected, in the order of the stream: what a damaged JOURNAL is restored from.
pub fn archived_commits(pool: &AnyPool) -> impl Stream<Item = Result<ArchivedCommit, Error>> + Send + '_ {
    sqlx::query("SELECT subject, sequence, hash, body FROM commits ORDER BY sequence")
        .fetch(pool)
        .map_err(Error::read)
        .and_then(async |row| {
            Ok(ArchivedCommit {
                subject: row.try_get("subject").map_err(Error::read)?,
                sequence: from_sql(row.try_get("sequence").map_err(Error::read)?),
                hash: row.try_get("hash").map_err(Error::read)?,
                body: row.try_get::<Vec<u8>, _>("body").map_err(Error::read)?.into(),
            })
        })
}

/// SQL has no unsigned integers; nothing that is stored comes near the difference.
pub(crate) fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn from_sql(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// What would end the path in a URL.
fn percent_encoded(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3F").replace('#', "%23")
}
