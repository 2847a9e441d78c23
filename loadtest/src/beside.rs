//! What runs beside a measurement and must not end before it.

use std::future::Future;

use anyhow::{Result, bail};
use tokio::task::JoinSet;

/// Parts of the system that is measured; ended when dropped.
#[derive(Default)]
pub(crate) struct Beside {
    parts: JoinSet<(&'static str, Result<()>)>,
}

impl Beside {
    /// Starts a part.
    pub(crate) fn start(&mut self, name: &'static str, part: impl Future<Output = Result<()>> + Send + 'static) {
        self.parts.spawn(async move { (name, part.await) });
    }

    /// Waits for a measurement.
    ///
    /// # Errors
    /// Its own, or that of a part that ended meanwhile: the measurement would wait for ever.
    pub(crate) async fn during<T>(&mut self, measurement: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            measured = measurement => measured,
            Some(ended) = self.parts.join_next() => match ended? {
                (name, Ok(())) => bail!("{name} ended in the middle of a measurement"),
                (name, Err(error)) => Err(error.context(format!("{name} failed in the middle of a measurement"))),
            },
        }
    }

    /// Waits until every part has ended by itself.
    ///
    /// # Errors
    /// The first that a part ended with.
    pub(crate) async fn ended(mut self) -> Result<()> {
        while let Some(ended) = self.parts.join_next().await {
            let (name, result) = ended?;
            result.map_err(|error| error.context(name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_ends_the_measurement() {
        let mut beside = Beside::default();
        beside.start("owner", async { bail!("no server") });
        let error = beside.during(std::future::pending::<Result<()>>()).await.expect_err("the part has failed");
        assert_eq!(format!("{error:#}"), "owner failed in the middle of a measurement: no server");
    }
}
