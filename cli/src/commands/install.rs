//! Creating an installation whose services run apart.

use anyhow::{Context as _, Result};
use cdflow_bus::{NewInstallation, install as create};
use cdflow_protocol::PartitionCount;

use crate::{Installation, show};

/// `cdflow install`.
#[derive(Debug, clap::Args)]
pub(crate) struct InstallOptions {
    /// Name of the installation.
    #[arg(long, default_value = "cdflow")]
    name: String,
    /// Partitions of each aggregate kind; can never be changed. 1 for a single server, 16 for a cluster.
    #[arg(long, default_value_t = 1)]
    partitions: u32,
    /// Copies of each stream: 1, 3 or 5.
    #[arg(long, default_value_t = 1)]
    replicas: usize,
    /// Most gigabytes that all streams may take together: keep it below the free disk.
    #[arg(long, default_value_t = 8)]
    max_gigabytes: u16,
    #[command(flatten)]
    installation: Installation,
}

pub(crate) async fn install(options: &InstallOptions) -> Result<()> {
    let new = NewInstallation {
        id: options.name.clone(),
        partitions: PartitionCount::new(options.partitions).context("--partitions must be at least 1")?,
        replicas: options.replicas,
        max_bytes: i64::from(options.max_gigabytes) << 30,
    };
    let found = create(&options.installation.bus("install")?, &new).await?;
    show::line(format!(
        "installation `{}` with {}, incarnation {}",
        found.id,
        show::counted(found.partitions.get(), "partition"),
        found.incarnation
    ));
    Ok(())
}
