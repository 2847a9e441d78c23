//! Signals to processes.

use anyhow::{Context as _, Result};
use rustix::process::Pid;
pub use rustix::process::Signal;

/// Sends a signal to one process.
///
/// # Errors
/// When there is no such process.
pub fn signal_process(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a pid is a positive number")?;
    rustix::process::kill_process(pid, signal).with_context(|| format!("signal process {}", pid.as_raw_nonzero()))
}
