//! A `nats-server` with JetStream.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{Signal, free_port, signal_process};

/// When the server writes acknowledged messages to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// From a two-minute timer: the server's default.
    Default,
    /// Before each acknowledgement: cdflow's default.
    Always,
}

/// A server on a free port with a store of its own; gone when dropped.
pub struct NatsServer {
    binary: PathBuf,
    store: TempDir,
    port: u16,
    child: Child,
}

impl NatsServer {
    /// Starts a server and waits until JetStream answers. The binary is `$CDFLOW_NATS_SERVER`, else `nats-server` on
    /// the path or in `.tools/bin`.
    ///
    /// # Errors
    /// When there is no binary or it does not become ready within 30 s; its log is part of the error.
    pub async fn start(sync: SyncMode) -> Result<Self> {
        Self::start_with(sync, "").await
    }

    /// As [`NatsServer::start`], with further lines of configuration.
    ///
    /// # Errors
    /// As [`NatsServer::start`].
    pub async fn start_with(sync: SyncMode, extra: &str) -> Result<Self> {
        let binary = nats_binary();
        let store = tempfile::Builder::new().prefix("cdflow-nats-").tempdir()?;
        let port = free_port();
        let sync = if sync == SyncMode::Always { "sync_interval: always" } else { "" };
        let configuration = format!(
            "server_name: test\nlisten: 127.0.0.1:{port}\njetstream {{\n  store_dir: \"{}\"\n  {sync}\n}}\n{extra}\n",
            store.path().display()
        );
        std::fs::write(store.path().join("nats.conf"), configuration)?;
        let child = spawn(&binary, store.path())?;
        let server = Self { binary, store, port, child };
        server.ready().await?;
        Ok(server)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The process now running.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Directory of the store.
    pub fn store(&self) -> &Path {
        self.store.path()
    }

    /// SIGKILL; the store stays.
    ///
    /// # Errors
    /// When the process cannot be reaped.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Freezes the process for a while.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn pause(&self, duration: Duration) -> Result<()> {
        signal_process(self.pid(), Signal::STOP)?;
        tokio::time::sleep(duration).await;
        signal_process(self.pid(), Signal::CONT)
    }

    /// Starts the server again on the same store and port.
    ///
    /// # Errors
    /// As [`NatsServer::start`].
    pub async fn restart(&mut self) -> Result<()> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.child = spawn(&self.binary, self.store.path())?;
        self.ready().await
    }

    async fn ready(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Ok(client) = async_nats::connect(self.url()).await
                && client.request("$JS.API.INFO", "".into()).await.is_ok()
            {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(30) {
                let log = std::fs::read_to_string(self.store.path().join("nats.log")).unwrap_or_default();
                bail!("nats-server did not become ready within 30 s; its log:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nats_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("CDFLOW_NATS_SERVER") {
        return path.into();
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin/nats-server");
    if tools.exists() { tools } else { "nats-server".into() }
}

fn spawn(binary: &Path, store: &Path) -> Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(store.join("nats.log"))?;
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(binary)
        .arg("-c")
        .arg(store.join("nats.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log))
        .spawn()
        .with_context(|| format!("start {} (`make tools` installs it)", binary.display()))
}
