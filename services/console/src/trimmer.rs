//! Keeps JOURNAL from growing without end: what the read model has on disk may leave the stream.

use std::time::Duration;

use cdflow_bus::Bus;
use cdflow_journal::Trimmed;
use tokio_util::sync::CancellationToken;

use crate::read_model::{self, Database};

/// Between two trims.
const EVERY: Duration = Duration::from_secs(600);
/// Between two trims while JOURNAL is more than 80 % full, and after a failure.
const SOON: Duration = Duration::from_secs(30);

/// Trims at once and then periodically, until `stop`. A crash in the middle leaves some partitions trimmed and others not.
pub(crate) async fn run(bus: Bus, database: Database, keep: u64, stop: CancellationToken) {
    while let Some(pause) = stop.run_until_cancelled(round(&bus, &database, keep)).await {
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// How long to wait before the next.
async fn round(bus: &Bus, database: &Database, keep: u64) -> Duration {
    match trim(bus, database, keep).await {
        Ok(Trimmed { commits, pressed }) => {
            if commits > 0 {
                tracing::info!(commits, "JOURNAL trimmed: the read model has them");
            }
            if pressed { SOON } else { EVERY }
        }
        Err(error) => {
            tracing::warn!(%error, "JOURNAL is not trimmed; trying again");
            SOON
        }
    }
}

async fn trim(bus: &Bus, database: &Database, keep: u64) -> Result<Trimmed, read_model::Error> {
    let archived = read_model::archived_positions(database.pool()).await?;
    // After a power cut the newest transactions may be gone: what leaves JOURNAL must be safe.
    if !database.reach_the_disk().await? {
        tracing::debug!("the read model is busy: JOURNAL is trimmed later");
        return Ok(Trimmed { commits: 0, pressed: true });
    }
    Ok(cdflow_journal::trim(bus, &archived, keep).await?)
}
