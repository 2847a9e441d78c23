//! An HAProxy whose servers are added while it runs.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::free_port;

/// A router with a frontend for each backend; gone when dropped.
pub struct Haproxy {
    directory: TempDir,
    frontends: Vec<(String, u16)>,
    child: Child,
}

impl Haproxy {
    /// Starts an HAProxy with empty backends of these names and waits until it answers. The binary is
    /// `$CDFLOW_HAPROXY`, else `haproxy` on the path or in `/usr/sbin`.
    ///
    /// # Errors
    /// When there is no binary or it does not answer within 30 s; its log is part of the error.
    pub async fn start(backends: &[&str]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("cdflow-haproxy-").tempdir()?;
        let frontends: Vec<_> = backends.iter().map(|backend| ((*backend).to_owned(), free_port())).collect();
        let mut configuration = format!(
            "global\n  stats socket {} mode 600 level admin\n\
             defaults\n  mode http\n  option redispatch\n  retries 2\n  timeout connect 2s\n  timeout client 30s\n  timeout server 30s\n",
            directory.path().join("admin.sock").display()
        );
        for (backend, port) in &frontends {
            writeln!(configuration, "frontend front-{backend}\n  bind 127.0.0.1:{port}\n  default_backend {backend}")?;
            writeln!(configuration, "backend {backend}\n  balance roundrobin")?;
        }
        std::fs::write(directory.path().join("haproxy.cfg"), configuration)?;
        let child = spawn(directory.path())?;
        let router = Self { directory, frontends, child };
        router.ready().await?;
        Ok(router)
    }

    /// Where clients of a backend connect.
    ///
    /// # Panics
    /// When there is no such backend.
    pub fn url(&self, backend: &str) -> String {
        let (_, port) = self.frontends.iter().find(|(name, _)| name == backend).expect("a backend of this router");
        format!("http://127.0.0.1:{port}")
    }

    /// The admin socket, as infrastructures name it.
    pub fn admin(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// Sends a command to the admin socket.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn command(&self, command: &str) -> Result<String> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        writeln!(stream, "{command}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Kills it and starts it again: it has forgotten all servers.
    ///
    /// # Errors
    /// As [`Haproxy::start`].
    pub async fn restart(&mut self) -> Result<()> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.child = spawn(self.directory.path())?;
        self.ready().await
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    async fn ready(&self) -> Result<()> {
        let begun = Instant::now();
        while !self.command("show info").is_ok_and(|answer| answer.contains("HAProxy")) {
            if begun.elapsed() > Duration::from_secs(30) {
                let log = std::fs::read_to_string(self.directory.path().join("haproxy.log")).unwrap_or_default();
                bail!("haproxy did not become ready within 30 s; its log:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(directory: &Path) -> Result<Child> {
    let binary = std::env::var_os("CDFLOW_HAPROXY").map(PathBuf::from).unwrap_or_else(|| {
        let system = Path::new("/usr/sbin/haproxy");
        if system.exists() { system.into() } else { "haproxy".into() }
    });
    let log = std::fs::File::options().create(true).append(true).open(directory.join("haproxy.log"))?;
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(&binary)
        .args(["-db", "-f"])
        .arg(directory.join("haproxy.cfg"))
        .stdin(Stdio::null())
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log))
        .spawn()
        .with_context(|| format!("start {} (`make tools` installs it)", binary.display()))
}
