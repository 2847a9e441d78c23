//! The private `nats-server` of `cdflow up`: a child process, on loopback, with credentials of its own, that writes
//! every acknowledged message to disk.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use cdflow_bus::{Credentials, Options as BusOptions};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

const USER: &str = "cdflow";

/// What a later start, and the command line beside it, must know. Readable by its owner only.
#[derive(Serialize, Deserialize)]
struct Kept {
    password: String,
    port: u16,
}

/// A running private server. Stopped by [`PrivateNats::stop`]; killed with its owner if that is dropped.
pub(crate) struct PrivateNats {
    child: Child,
    options: BusOptions,
    /// Nobody else uses the state directory meanwhile. The kernel gives it back when this process ends, however it does.
    _claim: fs::File,
}

impl PrivateNats {
    /// Starts the server on the store below `state`, taking over from one that a killed `cdflow up` left behind. Refused
    /// while another process uses this state directory.
    pub(crate) async fn start(state: &Path) -> Result<Self> {
        let directory = state.join("nats");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let claim = claim(&directory)?;
        stop_leftover(&directory).await?;
        let binary = find_binary()?;
        let kept = keep(&directory)?;
        let configuration = directory.join("nats.conf");
        write_private(&configuration, configuration_text(&directory, &kept).as_bytes())?;
        let log = fs::File::options().create(true).append(true).open(directory.join("nats.log"))?;
        let mut command = std::process::Command::new(&binary);
        command.arg("-c").arg(&configuration).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A Ctrl-C at the terminal goes to a whole process group: the server must outlive the services that still write.
        command.process_group(0);
        let child =
            Command::from(command).kill_on_drop(true).spawn().with_context(|| format!("start {}", binary.display()))?;
        if let Some(pid) = child.id() {
            fs::write(directory.join("pid"), pid.to_string())?;
        }
        let credentials = Credentials::User { name: USER.into(), password: kept.password };
        let options =
            BusOptions::new(format!("nats://127.0.0.1:{}", kept.port), "cdflow-up").with_credentials(credentials);
        Ok(Self { child, options, _claim: claim })
    }

    /// How services reach it.
    pub(crate) fn options(&self) -> &BusOptions {
        &self.options
    }

    /// Resolves when the server has ended by itself, which it should not.
    pub(crate) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => format!("nats-server ended by itself ({status}): see nats/nats.log in the state directory"),
            Err(error) => format!("nats-server cannot be watched: {error}"),
        }
    }

    /// Stops it and waits until its store is closed.
    pub(crate) async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

fn configuration_text(directory: &Path, kept: &Kept) -> String {
    // `sync_interval: always`: an acknowledged message is on disk.
    format!(
        "server_name: cdflow\nlisten: \"127.0.0.1:{}\"\njetstream {{\n  store_dir: \"{}\"\n  sync_interval: always\n}}\n\
         authorization {{\n  users: [ {{ user: \"{USER}\", password: \"{}\" }} ]\n}}\n",
        kept.port,
        directory.join("store").display(),
        kept.password,
    )
}

fn keep(directory: &Path) -> Result<Kept> {
    let path = directory.join("private.json");
    let known: Option<Kept> = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let port_is_free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let kept = match known {
        Some(kept) if port_is_free(kept.port) => return Ok(kept),
        Some(kept) => Kept { port: free_port()?, ..kept },
        None => Kept { password: random_password(), port: free_port()? },
    };
    write_private(&path, &serde_json::to_vec_pretty(&kept)?)?;
    Ok(kept)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn random_password() -> String {
    use rand::Rng as _;
    rand::rng().sample_iter(rand::distr::Alphanumeric).take(40).map(char::from).collect()
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let temporary = path.with_extension("new");
    let mut file = fs::File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(|| format!("write {}", temporary.display()))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path).with_context(|| format!("write {}", path.display()))
}

/// `$CDFLOW_NATS_SERVER`, `.tools/bin/nats-server` here or beside the program's checkout, or the path.
fn find_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CDFLOW_NATS_SERVER") {
        return Ok(path.into());
    }
    let tools = Path::new(".tools/bin/nats-server");
    if tools.exists() {
        return Ok(tools.into());
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&on_path).map(|directory| directory.join("nats-server")).find(|path| path.exists()) {
        Some(path) => Ok(path),
        None => bail!(
            "CDF-7001: there is no nats-server: looked at $CDFLOW_NATS_SERVER, .tools/bin and $PATH. \
             `make tools` installs it; 2.12 or later is needed"
        ),
    }
}

/// Without it, a second `cdflow up` would take the server of a living one for a leftover and stop it.
fn claim(directory: &Path) -> Result<fs::File> {
    let path = directory.join("lock");
    let file = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => bail!(
            "CDF-7003: another cdflow uses {}: stop it (`cdflow down`, or end its `cdflow up`), or say another `--state`",
            directory.parent().unwrap_or(directory).display()
        ),
        Err(fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

/// A `cdflow up` that was killed leaves its server running on the store: stop it before starting another.
async fn stop_leftover(directory: &Path) -> Result<()> {
    let pid_file = directory.join("pid");
    let Some(pid) = fs::read_to_string(&pid_file).ok().and_then(|text| Pid::from_raw(text.trim().parse().ok()?)) else {
        return Ok(());
    };
    let is_ours = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&*directory.join("nats.conf").to_string_lossy()));
    if !is_ours {
        return Ok(());
    }
    tracing::info!("stopping the nats-server of an earlier `cdflow up` that was killed");
    let _ = kill_process(pid, Signal::TERM);
    for _ in 0..200 {
        if test_kill_process(pid).is_err() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("CDF-7002: process {} (an earlier nats-server) does not stop: end it and try again", pid.as_raw_nonzero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_has_one_user_at_a_time_and_is_free_again_when_that_one_ends() {
        let state = tempfile::tempdir().expect("a directory");
        let first = claim(state.path()).expect("nobody uses it");
        let refused = claim(state.path()).expect_err("somebody does").to_string();
        assert!(refused.contains("CDF-7003"), "{refused}");
        drop(first);
        claim(state.path()).expect("nobody uses it any more");
    }
}
