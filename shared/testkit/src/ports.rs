//! Free loopback ports.

use std::net::TcpListener;

/// A port on 127.0.0.1 that nobody listens on at this moment.
///
/// # Panics
/// When the machine has no free port.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free loopback port").port()
}
