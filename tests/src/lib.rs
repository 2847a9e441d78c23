//! Drives the suite as its users do: with the programs that `cargo build --workspace` leaves, over HTTP and the command
//! line, against a real NATS server, a real HAProxy and real processes.

mod child;
mod fleet;
mod shop;
mod suite;

pub use child::{Background, KillWhatRunsIn, binary};
pub use fleet::{Fleet, Member};
pub use shop::{Customers, Report, Shop};
pub use suite::{Suite, SuiteOptions};
