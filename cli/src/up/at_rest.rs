//! The server of a suite that is down, for commands that need the journal and nobody else.

use std::path::Path;

use anyhow::Result;
use cdflow_bus::Bus;

use super::{console_url, nats::PrivateNats, private_bus, write_connection};

/// A private server without services.
pub(crate) struct AtRest(PrivateNats);

impl AtRest {
    /// Starts the server of this state directory, unless its suite is up.
    pub(crate) async fn start_if_down(state: &Path) -> Result<Option<Self>> {
        let mut options = private_bus(state, "at-rest")?;
        options.connect_within = std::time::Duration::ZERO;
        if Bus::connect(&options).await.is_ok() {
            return Ok(None);
        }
        let nats = PrivateNats::start(state).await?;
        // Its port may be another one than before.
        write_connection(state, nats.options(), &console_url(state)?)?;
        Ok(Some(Self(nats)))
    }

    pub(crate) async fn stop(self) {
        self.0.stop().await;
    }
}
