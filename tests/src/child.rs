//! Programs of the workspace as child processes.

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cdflow_testkit::{Signal, signal_process};

/// A program of the workspace, as built for the tests.
///
/// # Errors
/// When it is not built: `cargo test` builds only what a test links.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(Path::parent).context("a test runs from target/<profile>/deps")?;
    let path = profile.join(name);
    ensure!(path.exists(), "{} is not built: run `cargo build --workspace` first, or `make test`", path.display());
    Ok(path)
}

/// A child process with its output in a file; killed when dropped, and with the test.
pub struct Background {
    child: Child,
    log: PathBuf,
}

impl Background {
    /// Starts a program in a directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start<S: AsRef<OsStr>>(program: &Path, arguments: &[S], directory: &Path, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal_process(self.pid(), signal)
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be reaped.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits until it has ended by itself.
    ///
    /// # Errors
    /// When it has not within `within`.
    pub fn terminate(&mut self, within: Duration) -> Result<()> {
        self.signal(Signal::TERM)?;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(begun.elapsed() < within, "process {} does not stop within {within:?}", self.pid());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills every process whose working directory is below this one when dropped: instances of releases outlive whoever
/// started them on purpose.
pub struct KillWhatRunsIn(pub PathBuf);

impl Drop for KillWhatRunsIn {
    fn drop(&mut self) {
        let Ok(processes) = std::fs::read_dir("/proc") else { return };
        for process in processes.flatten() {
            let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
            let inside = std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&self.0));
            if inside && pid != std::process::id() {
                let _ = signal_process(pid, Signal::KILL);
            }
        }
    }
}
