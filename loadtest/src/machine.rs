//! What it was measured on.

use std::{
    fmt, fs,
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::measure::Samples;

/// Facts without which a figure says little.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) cpu: String,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    /// To append 300 bytes to a file and sync it, where the server's store is.
    pub(crate) fsync_p50_us: u128,
    pub(crate) fsync_p99_us: u128,
    /// Processes that wanted to run in the minute before: how busy the machine was with other things.
    pub(crate) load_before: String,
}

impl Machine {
    /// Looks, and measures the disk.
    pub(crate) fn read() -> Result<Self> {
        let syncs = sync_times(300)?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            cpu: field(&fs::read_to_string("/proc/cpuinfo")?, "model name").unwrap_or("unknown").to_owned(),
            memory_mib: kib(&fs::read_to_string("/proc/meminfo")?, "MemTotal").unwrap_or(0) >> 10,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            fsync_p50_us: syncs.quantile(0.5).as_micros(),
            fsync_p99_us: syncs.quantile(0.99).as_micros(),
            load_before: fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, cpu, memory_mib, kernel, fsync_p50_us, fsync_p99_us, load_before } = self;
        writeln!(f, "{cores} cores ({cpu}), {memory_mib} MiB, Linux {kernel}, load {load_before} before")?;
        write!(f, "append and fsync of 300 bytes: p50 {fsync_p50_us} us, p99 {fsync_p99_us} us")
    }
}

fn sync_times(count: usize) -> Result<Samples> {
    let mut file = tempfile::tempfile()?;
    let mut samples = Samples::default();
    for _ in 0..count {
        let begun = Instant::now();
        file.write_all(&[7; 300])?;
        file.sync_data()?;
        samples.add(begun.elapsed());
    }
    Ok(samples)
}

/// The value of `name: value` or `name\t: value` in a file below `/proc`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}

fn kib(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.strip_suffix(" kB")?.trim().parse().ok()
}

/// Bytes of a process that are in memory.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(kib(&status, "VmRSS").context("the process has ended")? << 10)
}

/// Processor time that a process has used.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    ticks(&stat).map(|ticks| Duration::from_millis(10 * ticks)).context("the format of /proc/<pid>/stat")
}

/// User and system time in hundredths of a second (`proc(5)`: fields 14 and 15; Linux counts in 1/100 s there).
fn ticks(stat: &str) -> Option<u64> {
    // The second field is a name in parentheses that may contain anything.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_found() {
        assert_eq!(kib("VmPeak:\t  900 kB\nVmRSS:\t   120 kB\n", "VmRSS"), Some(120));
        assert_eq!(field("model name\t: X 3 @ 2:1\n", "model name"), Some("X 3 @ 2:1"));
        assert_eq!(ticks("7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 31 11 0 0"), Some(42));
    }

    #[test]
    fn this_process_has_a_size_and_used_some_time() {
        assert!(resident_bytes(std::process::id()).expect("it runs") > 1 << 20);
        processor_time(std::process::id()).expect("it runs");
    }
}
