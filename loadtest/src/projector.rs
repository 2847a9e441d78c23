//! A reader of the journal beside the measurement, as the console is one.

use anyhow::Result;
use cdflow_bus::Bus;
use cdflow_journal::{Positions, ReadCommit, Reader};

/// Shows every commit to `see`, until dropped.
pub(crate) async fn project(bus: Bus, mut see: impl FnMut(&ReadCommit) + Send) -> Result<()> {
    let mut reader = Reader::open(bus, "loadtest", Positions::default()).await?;
    loop {
        let commit = reader.next().await?;
        see(&commit);
        commit.ack().await;
    }
}
