//! How a driver reaches a directory of a host.

use std::{collections::BTreeMap, future::Future, path::Path};

use crate::{error::Error, process::Process};

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Launch {
    /// Program and arguments; a relative program with a `/` is one of the working directory.
    pub(super) command: Vec<String>,
    /// Working directory.
    pub(super) directory: String,
    /// All variables, apart from those that every process needs to find its way (`PATH`, `HOME`, `LANG`, `TZ`, `TMPDIR`).
    pub(super) environment: BTreeMap<String, String>,
    /// Locked for as long as the process lives.
    pub(super) lock: String,
    /// Where its output is added.
    pub(super) output: String,
}

/// How to end a process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// SIGTERM.
    Ask,
    /// SIGKILL.
    Force,
}

/// One directory of one host, and the processes of it. Paths are relative to the directory.
///
/// A second way to reach hosts implements this and nothing else. Every write is complete or absent after a crash.
pub(super) trait Transport: Send + Sync + Sized + 'static {
    /// Held until dropped, also by a process that is paused; gone when the process is.
    type Lock: Send + Sync;

    /// Name of the host.
    fn name(&self) -> &str;

    /// Where its ports are reached.
    fn address(&self) -> &str;

    /// The path on the host.
    fn absolute(&self, path: &str) -> String;

    /// Takes the directory's lock; `None` while somebody else holds it.
    fn try_lock(&self) -> impl Future<Output = Result<Option<Self::Lock>, Error>> + Send;

    /// Content of a file; `None` when there is none.
    fn read(&self, path: &str) -> impl Future<Output = Result<Option<Vec<u8>>, Error>> + Send;

    /// Replaces a file; on disk when it returns.
    fn write(&self, path: &str, content: &[u8]) -> impl Future<Output = Result<(), Error>> + Send;

    /// Names in a directory, sorted; none when there is no such directory.
    fn list(&self, path: &str) -> impl Future<Output = Result<Vec<String>, Error>> + Send;

    /// Names in a directory, the one that was changed last first.
    fn list_newest_first(&self, path: &str) -> impl Future<Output = Result<Vec<String>, Error>> + Send;

    /// Moves a file or directory over what is there.
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// Removes a file, a link or a directory with everything in it; fine when there is none.
    fn remove(&self, path: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// Where a link points to; `None` when there is none.
    fn read_link(&self, path: &str) -> impl Future<Output = Result<Option<String>, Error>> + Send;

    /// Makes a link, or turns it, at one stroke.
    fn link(&self, path: &str, to: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// Makes a directory with its parents.
    fn make_directory(&self, path: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// Brings an archive of this machine to the host and unpacks it into a new directory. The error of an archive that
    /// cannot be unpacked safely is a sentence.
    fn unpack(&self, archive: &Path, into: &str) -> impl Future<Output = Result<Result<(), String>, Error>> + Send;

    /// Takes a port of the range for the owner (a path), for as long as the owner is there; `None` when all are taken.
    /// An owner that has one in the range keeps it.
    fn reserve_port(&self, range: (u16, u16), owner: &str) -> impl Future<Output = Result<Option<u16>, Error>> + Send;

    /// Starts a process in a session of its own; `None` when the lock is held, so one is running already.
    fn launch(&self, launch: &Launch) -> impl Future<Output = Result<Option<Process>, Error>> + Send;

    /// The leader among the processes that hold this lock; `None` when nobody does.
    fn find(&self, lock: &str) -> impl Future<Output = Result<Option<Process>, Error>> + Send;

    /// Whether it runs. A zombie does not.
    fn is_alive(&self, process: &Process) -> impl Future<Output = bool> + Send;

    /// Ends the process with its whole group.
    fn end(&self, process: &Process, how: Ending) -> impl Future<Output = ()> + Send;

    /// Ends whatever still holds a lock.
    fn end_holders(&self, lock: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// The last lines of a file.
    fn tail(&self, path: &str, lines: usize) -> impl Future<Output = String> + Send;
}
