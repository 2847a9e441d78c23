//! The database behind the read model.

use std::{path::Path, sync::Once, time::Duration};

use cdflow_journal::ArchivedCommit;
use cdflow_protocol::{AggregateKind, Partition, subjects};
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

    /// Brings every transaction so far to the disk, where it survives a power cut. `false` when readers or a writer were
    /// in the way.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn reach_the_disk(&self) -> Result<bool, Error> {
        let row = sqlx::query("PRAGMA wal_checkpoint(FULL)").fetch_one(&self.pool).await.map_err(Error::write)?;
        Ok(row.try_get::<i64, _>(0).map_err(Error::write)? == 0)
    }

    /// Waits until all connections are closed.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Everything that was ever projected, in the order of the stream: what [`cdflow_journal::restore`] writes back into a
/// damaged JOURNAL.
///
/// ```no_run
/// # async fn example(bus: cdflow_bus::Bus, database: cdflow_console::Database) -> Result<(), cdflow_journal::Error> {
/// use cdflow_console::archived_commits;
///
/// let restored = cdflow_journal::restore(&bus, || archived_commits(database.pool()), true).await?;
/// println!("{} commits", restored.commits);
/// # Ok(())
/// # }
/// ```
pub fn archived_commits(pool: &AnyPool) -> impl Stream<Item = Result<ArchivedCommit, Error>> + Send + '_ {
    sqlx::query("SELECT subject, sequence, body FROM commits ORDER BY sequence")
        .fetch(pool)
        .map_err(Error::read)
        .and_then(async |row| {
            let (kind, partition) = partition(&row.try_get::<String, _>("subject").map_err(Error::read)?)?;
            Ok(ArchivedCommit {
                kind,
                partition,
                sequence: from_sql(row.try_get("sequence").map_err(Error::read)?),
                body: row.try_get::<Vec<u8>, _>("body").map_err(Error::read)?.into(),
            })
        })
}

/// Kind and partition of a stored subject.
pub(crate) fn partition(subject: &str) -> Result<(AggregateKind, Partition), Error> {
    subjects::parse_partition(subject).ok_or_else(|| Error::Database {
        what: "read",
        reason: format!("{subject:?} is no subject of JOURNAL that this release knows"),
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
