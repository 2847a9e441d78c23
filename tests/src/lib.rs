//! Drives the suite as its users do: with the programs that `cargo build --workspace` leaves, over HTTP and the command
//! line, against a real NATS server, a real HAProxy and real processes.

mod child;
mod shop;
mod suite;

pub use child::{Background, binary};
pub use shop::{Customers, Shop};
pub use suite::{Suite, SuiteOptions};
