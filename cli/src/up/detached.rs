//! A suite in the background.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::UpOptions;
use crate::{settings::STATE_DIRECTORY, show};

const PID: &str = "cdflow.pid";
const LOG: &str = "cdflow.log";

/// `cdflow down`.
#[derive(Debug, clap::Args)]
pub(crate) struct DownOptions {
    /// State directory of the suite.
    #[arg(long, default_value = STATE_DIRECTORY)]
    state: PathBuf,
}

/// Starts this program again without `--detach`, and waits until the console answers.
pub(super) async fn start(options: &UpOptions) -> Result<()> {
    let pid_file = options.state.join(PID);
    if let Some(pid) = running(&pid_file) {
        show::aside(format!("cdflow is already up (process {})", pid.as_raw_nonzero()));
        return Ok(());
    }
    let log = options.state.join(LOG);
    let output = fs::File::options().create(true).append(true).open(&log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(std::env::args_os().skip(1).filter(|argument| argument != "--detach"))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    let mut child = command.spawn().context("start the suite in the background")?;
    fs::write(&pid_file, child.id().to_string())?;
    let begun = Instant::now();
    let ready = format!("http://{}/readyz", options.listen);
    let http = reqwest::Client::new();
    loop {
        if let Some(status) = child.try_wait()? {
            let _ = fs::remove_file(&pid_file);
            bail!("the suite ended at once ({status}); the last lines of {}:\n{}", log.display(), tail(&log));
        }
        if http.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
            break;
        }
        if begun.elapsed() > Duration::from_secs(60) {
            bail!("the suite is not ready after 60 s; the last lines of {}:\n{}", log.display(), tail(&log));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    show::line("cdflow is up");
    show::line(format!("  page    http://{}", options.listen));
    show::line(format!("  API     http://{}{}", options.listen, cdflow_console::api::BASE));
    show::line(format!("  events  http://{}/v1/events", options.listen_events));
    show::line(format!("  log     {}", log.display()));
    Ok(())
}

/// Stops the suite and waits until it has ended.
pub(crate) async fn down(options: &DownOptions) -> Result<()> {
    let pid_file = options.state.join(PID);
    let Some(pid) = running(&pid_file) else {
        show::aside("cdflow is not running");
        return Ok(());
    };
    kill_process(pid, Signal::TERM).context("stop the suite")?;
    for _ in 0..600 {
        if test_kill_process(pid).is_err() {
            let _ = fs::remove_file(&pid_file);
            show::line("cdflow is down");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("process {} does not stop within 30 s: see {}", pid.as_raw_nonzero(), options.state.join(LOG).display())
}

/// The process of the pid file, if it is alive and one of ours.
fn running(pid_file: &Path) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    String::from_utf8_lossy(&line).contains("cdflow").then(|| Pid::from_raw(pid))?
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
