//! Starts the real servers that tests talk to, on free loopback ports, and stops them again.
//!
//! Each server is a child process known by its pid, so a test can kill it, pause it and start it again on the same
//! store. A test that is itself killed takes its servers with it (`PR_SET_PDEATHSIG`).

mod haproxy;
mod nats;
mod ports;
mod process;

pub use haproxy::Haproxy;
pub use nats::{NatsServer, SyncMode};
pub use ports::free_port;
pub use process::{Signal, signal_process};
