//! This machine: a host is a directory.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
};

use super::transport::{Ending, Launch, Transport};
use crate::{
    archive::{self, Limits},
    error::Error,
    process::{self, Process},
};

/// What a process needs to find its way; nothing else of the executor's environment is its business.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];
/// Names the instance that a process belongs to.
const MARK: &str = "CDFLOW_INSTANCE_LOCK";

/// A directory of this machine.
#[derive(Debug, Clone)]
pub(super) struct Local {
    name: String,
    directory: PathBuf,
    /// Ports are those of the machine, so hosts share their reservations.
    ports: PathBuf,
}

impl Local {
    pub(super) fn new(name: &str, directory: PathBuf, ports: PathBuf) -> Self {
        Self { name: name.into(), directory, ports }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    fn failed(&self, what: &str, path: &Path) -> impl Fn(std::io::Error) -> Error {
        let what = format!("{}: cannot {what} {}", self.name, path.display());
        move |error| Error::host(what.clone(), error)
    }
}

fn present<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn names(path: &Path) -> std::io::Result<Vec<fs::DirEntry>> {
    present(fs::read_dir(path))?.into_iter().flatten().collect()
}

fn open_lock(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)
}

fn try_flock(file: &File) -> std::io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Transport for Local {
    type Lock = File;

    fn name(&self) -> &str {
        &self.name
    }

    fn address(&self) -> &str {
        "127.0.0.1"
    }

    fn absolute(&self, path: &str) -> String {
        self.path(path).display().to_string()
    }

    async fn try_lock(&self) -> Result<Option<File>, Error> {
        let path = self.path("lock");
        let take = || {
            fs::create_dir_all(&self.directory)?;
            let file = open_lock(&path)?;
            Ok(try_flock(&file)?.then_some(file))
        };
        take().map_err(self.failed("lock", &path))
    }

    async fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(path);
        present(fs::read(&path)).map_err(self.failed("read", &path))
    }

    async fn write(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.path(path);
        let parent = path.parent().unwrap_or(&self.directory);
        let write = || {
            fs::create_dir_all(parent)?;
            let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(parent)?;
            file.write_all(content)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|e| e.error)?;
            File::open(parent)?.sync_all()
        };
        write().map_err(self.failed("write", &path))
    }

    async fn list(&self, path: &str) -> Result<Vec<String>, Error> {
        let path = self.path(path);
        let entries = names(&path).map_err(self.failed("list", &path))?;
        let mut names: Vec<String> = entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    async fn list_newest_first(&self, path: &str) -> Result<Vec<String>, Error> {
        let path = self.path(path);
        let entries = names(&path).map_err(self.failed("list", &path))?;
        let mut dated: Vec<_> = entries
            .iter()
            .filter_map(|entry| {
                let changed = entry.metadata().ok()?;
                Some(((changed.mtime(), changed.mtime_nsec()), entry.file_name().into_string().ok()?))
            })
            .collect();
        dated.sort_by(|a, b| b.cmp(a));
        Ok(dated.into_iter().map(|(_, name)| name).collect())
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let (from, to) = (self.path(from), self.path(to));
        let rename = || {
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::rename(&from, &to)
        };
        rename().map_err(self.failed("put in place", &to))
    }

    async fn remove(&self, path: &str) -> Result<(), Error> {
        let path = self.path(path);
        let remove = || match present(fs::symlink_metadata(&path))? {
            Some(found) if found.is_dir() => fs::remove_dir_all(&path),
            Some(_) => fs::remove_file(&path),
            None => Ok(()),
        };
        remove().map_err(self.failed("remove", &path))
    }

    async fn read_link(&self, path: &str) -> Result<Option<String>, Error> {
        let path = self.path(path);
        let target = present(fs::read_link(&path)).map_err(self.failed("read", &path))?;
        Ok(target.map(|target| target.display().to_string()))
    }

    async fn link(&self, path: &str, to: &str) -> Result<(), Error> {
        let path = self.path(path);
        let turn = || {
            let new = path.with_extension("new");
            if fs::symlink_metadata(&new).is_ok() {
                fs::remove_file(&new)?;
            }
            symlink(to, &new)?;
            fs::rename(&new, &path)
        };
        turn().map_err(self.failed("link", &path))
    }

    async fn make_directory(&self, path: &str) -> Result<(), Error> {
        let path = self.path(path);
        fs::create_dir_all(&path).map_err(self.failed("create", &path))
    }

    async fn unpack(&self, archive: &Path, into: &str) -> Result<Result<(), String>, Error> {
        let (archive, into) = (archive.to_owned(), self.path(into));
        tokio::task::spawn_blocking(move || archive::unpack(&archive, &into, Limits::default()))
            .await
            .map_err(|e| Error::host(format!("{}: unpacking was interrupted", self.name), e))
    }

    async fn reserve_port(&self, (from, to): (u16, u16), owner: &str) -> Result<Option<u16>, Error> {
        let owner = self.absolute(owner);
        let reserve = || {
            fs::create_dir_all(&self.ports)?;
            // Two executors look one after the other.
            let lock = open_lock(&self.ports.join("lock"))?;
            flock(&lock, FlockOperation::LockExclusive)?;
            let mut taken = HashSet::new();
            for entry in names(&self.ports)? {
                let Some(port) = entry.file_name().to_str().and_then(|name| name.parse::<u16>().ok()) else { continue };
                let of = fs::read_to_string(entry.path()).unwrap_or_default();
                if of == owner && (from..=to).contains(&port) {
                    return Ok(Some(port));
                }
                if of.is_empty() || !Path::new(&of).exists() {
                    fs::remove_file(entry.path())?;
                } else {
                    taken.insert(port);
                }
            }
            for port in (from..=to).filter(|port| !taken.contains(port)) {
                // Somebody who knows nothing of reservations may listen on it.
                if TcpListener::bind(("0.0.0.0", port)).is_err() || TcpListener::bind(("127.0.0.1", port)).is_err() {
                    continue;
                }
                fs::write(self.ports.join(port.to_string()), &owner)?;
                return Ok(Some(port));
            }
            Ok(None)
        };
        reserve().map_err(self.failed("reserve a port in", &self.ports))
    }

    async fn launch(&self, launch: &Launch) -> Result<Option<Process>, Error> {
        let lock_path = self.path(&launch.lock);
        let start = || {
            let lock = open_lock(&lock_path)?;
            if !try_flock(&lock)? {
                return Ok(None);
            }
            let output = OpenOptions::new().create(true).append(true).open(self.path(&launch.output))?;
            let mut command = tokio::process::Command::new("setsid");
            command.arg("--").args(&launch.command).current_dir(self.path(&launch.directory)).env_clear();
            for name in PASSED_ON {
                if let Some(value) = std::env::var_os(name) {
                    command.env(name, value);
                }
            }
            // The lock goes over to the process: its descriptor is the process's standard input.
            let child = command
                .envs(&launch.environment)
                .env(MARK, &lock_path)
                .stdin(Stdio::from(lock))
                .stdout(Stdio::from(output.try_clone()?))
                .stderr(Stdio::from(output))
                .kill_on_drop(false)
                .spawn()?;
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
            // Not waited for: it outlives this. Ended children are reaped by the runtime.
            drop(child);
            Ok(pid.map(|pid| Process::with_pid(pid).unwrap_or(Process { pid, started: 0, boot: String::new() })))
        };
        start().map_err(self.failed("start a process for", &lock_path))
    }

    async fn find(&self, lock: &str) -> Result<Option<Process>, Error> {
        let path = self.path(lock);
        let failed = self.failed("lock", &path);
        // A process that has just been started may not show its environment yet.
        for _ in 0..100 {
            if !path.exists() {
                return Ok(None);
            }
            let free = open_lock(&path).and_then(|file| try_flock(&file)).map_err(&failed)?;
            if free {
                return Ok(None);
            }
            let holders = process::with_variable(MARK, &path.display().to_string());
            // The leader was there first.
            if let Some(leader) = holders.into_iter().min_by_key(|process| (process.started, process.pid)) {
                return Ok(Some(leader));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(None)
    }

    async fn is_alive(&self, process: &Process) -> bool {
        process.is_alive()
    }

    async fn end(&self, process: &Process, how: Ending) {
        process.signal_group(match how {
            Ending::Ask => Signal::TERM,
            Ending::Force => Signal::KILL,
        });
    }

    async fn end_holders(&self, lock: &str) -> Result<(), Error> {
        let mark = self.path(lock).display().to_string();
        let holders = process::with_variable(MARK, &mark);
        process::kill_all(&holders);
        process::until_gone(&holders, Duration::from_secs(5)).await;
        Ok(())
    }

    async fn tail(&self, path: &str, lines: usize) -> String {
        let read = || {
            let mut file = File::open(self.path(path))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(8 << 10)))?;
            let mut end = Vec::new();
            file.take(8 << 10).read_to_end(&mut end)?;
            Ok::<_, std::io::Error>(end)
        };
        let end = read().unwrap_or_default();
        let text = String::from_utf8_lossy(&end);
        let all: Vec<&str> = text.lines().collect();
        let shown = all[all.len().saturating_sub(lines)..].join("\n");
        if shown.trim().is_empty() { "(it wrote nothing)".into() } else { shown }
    }
}
