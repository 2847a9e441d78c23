//! Processes of this machine: who they are, whether they live, and ending them with everything they started.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Process {
    /// Its number, which is also that of its process group.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
    /// Random id of this boot of the machine.
    pub boot: String,
}

impl Process {
    /// This process.
    pub fn current() -> Option<Self> {
        Self::with_pid(i32::try_from(std::process::id()).ok()?)
    }

    /// The process that now has this number; `None` when there is none, or only a zombie.
    pub fn with_pid(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        stat.alive.then(|| Self { pid, started: stat.started, boot: boot_id() })
    }

    /// Whether it still runs. A zombie does not.
    pub fn is_alive(&self) -> bool {
        Self::with_pid(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal to its process group, if it still runs.
    pub fn signal_group(&self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            // It may end at this very moment, which is what is wanted.
            let _ = kill_process_group(pid, signal);
        }
    }
}

/// Processes, zombies aside, whose environment has this variable with this value.
pub fn with_variable(name: &str, value: &str) -> Vec<Process> {
    let all = with_any(name).into_iter();
    all.filter(|(_, found)| found == value).map(|(process, _)| process).collect()
}

/// Processes, zombies aside, whose environment has this variable, with its value.
pub fn with_any(name: &str) -> Vec<(Process, String)> {
    let start = format!("{name}=");
    let value_of = |pid: i32| {
        let environment = fs::read(proc(pid, "environ")).ok()?;
        let variable = environment.split(|byte| *byte == 0).find_map(|one| one.strip_prefix(start.as_bytes()))?;
        Some((Process::with_pid(pid)?, String::from_utf8_lossy(variable).into_owned()))
    };
    all_pids().filter_map(value_of).collect()
}

/// SIGKILL to each.
pub fn kill_all(processes: &[Process]) {
    for process in processes {
        if process.is_alive()
            && let Some(pid) = Pid::from_raw(process.pid)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// SIGKILL to a whole group, right after its leader has been reaped or dropped.
pub(crate) fn kill_group(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// SIGTERM to a whole group.
pub(crate) fn terminate_group(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, Signal::TERM);
    }
}

/// Waits until none of them runs; whether that happened in time.
pub async fn until_gone(processes: &[Process], limit: Duration) -> bool {
    let gone = async {
        while processes.iter().any(Process::is_alive) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(limit, gone).await.is_ok()
}

fn all_pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn proc(pid: i32, file: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(file)
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

struct Stat {
    alive: bool,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(proc(pid, "stat")).ok()?)
    }

    /// proc(5): the name in parentheses may contain anything, so fields are counted from the last parenthesis.
    fn parse(stat: &str) -> Option<Self> {
        let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = fields.next()?;
        // State is field 3, the start time field 22.
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { alive: !matches!(state, "Z" | "X" | "x"), started })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_confuse() {
        let stat = "42 (a) b (c) Z 1 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 987654 0 0";
        let stat = Stat::parse(stat).expect("parses");
        assert!(!stat.alive);
        assert_eq!(stat.started, 987_654);
    }

    #[test]
    fn this_process_is_alive_and_a_former_one_with_its_number_is_not() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let this = Process::with_pid(pid).expect("alive");
        assert!(this.is_alive());
        assert!(!Process { started: this.started - 1, ..this.clone() }.is_alive());
        assert!(!Process { boot: "another".into(), ..this }.is_alive());
    }
}
