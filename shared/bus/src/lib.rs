//! Connection to NATS JetStream: one place that knows streams, settings and traps of the client.
//!
//! # Promise
//! - A [`Bus`] exists only for a server and an installation that fit: nats-server 2.12 or later, with streams whose
//!   metadata name the installation, its partition count and its hash (rule 21 of the journal protocol).
//! - [`Bus::send_signals`] returns when the signals are stored; a crash in the middle leaves each stored or not, never
//!   half, and sending again with the same ids within two minutes stores nothing twice. Receivers deduplicate beyond that.
//!
//! ```no_run
//! # async fn example() -> Result<(), cdflow_bus::Error> {
//! use cdflow_bus::{Bus, NewInstallation, Options};
//!
//! let options = Options::new("nats://127.0.0.1:4222", "console");
//! cdflow_bus::install(&options, &NewInstallation::default()).await?;
//! let bus = Bus::connect(&options).await?;
//! println!("{} partitions", bus.installation().partitions.get());
//! # Ok(())
//! # }
//! ```

mod configuration;
mod connection;
mod error;
mod installation;
pub mod retry;
mod room;
mod signals;

pub use configuration::{ConfigurationStore, Revision};
pub use connection::{Bus, Credentials, Options};
pub use error::Error;
pub use installation::{Installation, NewInstallation, install};
