//! Scripts of people.
//!
//! A script runs at least once: a machine can die after its effect and before its result. It gets `CDFLOW_STEP_KEY`,
//! the same for all attempts of its step, to recognise its own traces; one that must not be repeated says so, and
//! fails with class `executor-lost` instead of running again.
//!
//! It runs by `sh -euc` in a process group and a directory of its own. When it ends, whatever it left running in that
//! group is killed; what an executor that crashed left running is killed before the script is run again here.

mod outputs;

use std::{collections::VecDeque, path::Path, process::Stdio, time::Duration};

use cdflow_protocol::v1::{ErrorClass, OnCrash, ScriptTask, Task, TaskResult};
use cdflow_worker::{StopReason, TaskContext, failed, succeeded};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
};

use crate::{
    log::StepLog,
    process::{self, Process},
};

/// Longest line that is published, in bytes.
const LONGEST_LINE: usize = 16 << 10;
/// Most bytes of output that are published, [`BESIDE_A_LINE`] for each line included.
const MOST_OUTPUT: usize = 16 << 20;
/// What a line takes of that beside its text: each is stored as a message of its own, and the step ends after its log.
const BESIDE_A_LINE: usize = 256;
/// Lines of output in the message of a failure.
const SHOWN_LINES: usize = 12;
/// Between SIGTERM and SIGKILL for a script that must stop.
const GRACE: Duration = Duration::from_secs(2);
/// How long output of a script that has ended may still come.
const LATE_OUTPUT: Duration = Duration::from_millis(500);
/// Names the executor that started a process, so that its successor on this machine knows whose it was.
const STARTED_BY: &str = "CDFLOW_STARTED_BY";
/// Marks the processes of a task.
const MARK: &str = "CDFLOW_TASK";
/// Where outputs are written.
const OUTPUT: &str = "CDFLOW_OUTPUT";

/// Kills scripts whose executor on this machine is gone: their tasks are done elsewhere by now, or will be.
pub(crate) fn end_orphans() {
    for (process, by) in process::with_any(STARTED_BY) {
        let executor = serde_json::from_str::<Option<Process>>(&by).ok().flatten();
        if executor.is_some_and(|executor| !executor.is_alive()) {
            tracing::warn!(pid = process.pid, "killing what a script of a former executor left running");
            process::kill_all(&[process]);
        }
    }
}

/// Runs a script to its end.
pub(crate) async fn run(task: &Task, script: &ScriptTask, context: &TaskContext, log: &StepLog) -> TaskResult {
    if context.delivery > 1 || task.resent {
        let left = process::with_variable(MARK, &task.id);
        process::kill_all(&left);
        if script.on_crash() == OnCrash::Fail {
            return failed(
                ErrorClass::ExecutorLost,
                "CDF-5101: the executor that ran this script vanished in the middle of it, or may have, and the step must \
                 not be repeated: look what it has done, and start the step again by hand",
            );
        }
        log.say(format!(
            "the executor that ran this may have vanished: running it again (delivery {})",
            context.delivery
        ));
    }
    match attempt(task, script, context, log).await {
        Ok(result) => result,
        Err(error) => failed(ErrorClass::Infrastructure, format!("CDF-5102: the script cannot be run: {error}")),
    }
}

async fn attempt(
    task: &Task,
    script: &ScriptTask,
    context: &TaskContext,
    log: &StepLog,
) -> Result<TaskResult, std::io::Error> {
    let scratch = tempfile::Builder::new().prefix("cdflow-step-").tempdir()?;
    let work = scratch.path().join("work");
    let output = scratch.path().join("output");
    std::fs::create_dir(&work)?;
    std::fs::write(&output, "")?;
    let directory = if script.directory.is_empty() { work.as_path() } else { Path::new(&script.directory) };
    let mut command = command(task, script, directory, &output);
    let mut group = Group::spawn(&mut command)?;
    let mut tail = Tail::default();
    let ended = follow(&mut group, context, log, &mut tail).await?;
    drop(group);

    if context.reason().is_some() {
        // The worker says why.
        return Ok(failed(ErrorClass::Script, log.redact(&tail.last())));
    }
    if !ended.success() {
        let how = match (ended.code(), std::os::unix::process::ExitStatusExt::signal(&ended)) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "ended abnormally".into(),
        };
        let message = format!("CDF-5103: the script failed with {how}.{}", tail.shown());
        return Ok(failed(ErrorClass::Script, log.redact(&message)));
    }
    let text = match outputs::read(&output) {
        Ok(text) => text,
        Err(reason) => return Ok(failed(ErrorClass::Input, format!("CDF-5104: {reason}"))),
    };
    Ok(match outputs::parse(&text) {
        Ok(found) => TaskResult {
            outputs: found.into_iter().map(|(name, value)| (name, log.redact(&value))).collect(),
            ..succeeded("")
        },
        Err(error) => failed(ErrorClass::Input, log.redact(&format!("CDF-5105: {error}"))),
    })
}

fn command(task: &Task, script: &ScriptTask, directory: &Path, output: &Path) -> Command {
    let mut command = Command::new("sh");
    command.arg("-euc").arg(&script.script).current_dir(directory);
    // Settings of the executor, its credentials among them, are not the script's.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CDFLOW_") {
            command.env_remove(name);
        }
    }
    command
        .envs(&script.environment)
        .env("CDFLOW_STEP_KEY", &task.step_key)
        .env("CDFLOW_ATTEMPT", task.attempt.to_string())
        .env(OUTPUT, output)
        .env(MARK, &task.id)
        .env(STARTED_BY, serde_json::to_string(&Process::current()).unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    command
}

/// Reads output until the script has ended, or must stop.
async fn follow(
    group: &mut Group,
    context: &TaskContext,
    log: &StepLog,
    tail: &mut Tail,
) -> Result<std::process::ExitStatus, std::io::Error> {
    let (stdout, stderr) = (group.child.stdout.take(), group.child.stderr.take());
    let mut budget = MOST_OUTPUT;
    let mut out = Lines::new(stdout, log.longest_secret());
    let mut err = Lines::new(stderr, log.longest_secret());
    let mut ended = None;
    let mut terminated = None;
    let mut late = std::pin::pin!(tokio::time::sleep(Duration::MAX));
    loop {
        let (line, stderr) = tokio::select! {
            // A line that is there is read before the end is noticed.
            biased;
            () = context.cancelled.cancelled(), if terminated.is_none() => {
                // After a lost lease another worker may already be at it.
                if context.reason() != Some(StopReason::LeaseLost) {
                    group.terminate();
                    late.as_mut().reset(tokio::time::Instant::now() + GRACE);
                } else {
                    late.as_mut().reset(tokio::time::Instant::now());
                }
                terminated = Some(());
                continue;
            }
            () = &mut late => {
                group.kill();
                return match ended {
                    Some(status) => Ok(status),
                    None => group.child.wait().await,
                };
            }
            line = out.next(), if out.is_open() => (line?, false),
            line = err.next(), if err.is_open() => (line?, true),
            status = group.child.wait(), if ended.is_none() => {
                let status = status?;
                if !out.is_open() && !err.is_open() {
                    return Ok(status);
                }
                ended = Some(status);
                // Something in the background may hold the pipes open for ever.
                late.as_mut().reset(tokio::time::Instant::now() + LATE_OUTPUT);
                continue;
            }
            else => break,
        };
        let Some(line) = line else {
            if let Some(status) = ended.filter(|_| !out.is_open() && !err.is_open()) {
                return Ok(status);
            }
            continue;
        };
        let text = line.text(log);
        tail.push(&text);
        if let Some(rest) = budget.checked_sub(text.len() + BESIDE_A_LINE) {
            budget = rest;
            log.write(&text, stderr);
        } else if budget > 0 {
            budget = 0;
            log.say("this is more output than is kept: the rest is not shown");
        }
    }
    match ended {
        Some(status) => Ok(status),
        None => group.child.wait().await,
    }
}

/// A process group, killed when it is dropped.
struct Group {
    child: Child,
    pid: Option<u32>,
}

impl Group {
    fn spawn(command: &mut Command) -> Result<Self, std::io::Error> {
        let child = command.spawn()?;
        Ok(Self { pid: child.id(), child })
    }

    fn terminate(&self) {
        if let Some(pid) = self.pid {
            process::terminate_group(pid);
        }
    }

    fn kill(&self) {
        if let Some(pid) = self.pid {
            process::kill_group(pid);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A line as it came out of a pipe.
struct OutputLine {
    bytes: Vec<u8>,
    /// It goes on, and nobody will see the rest.
    cut: bool,
}

impl OutputLine {
    /// Without secrets, also where a cut goes through one.
    fn text(&self, log: &StepLog) -> String {
        let mut text = log.redact(&String::from_utf8_lossy(&self.bytes));
        if self.cut {
            let end = text.len().saturating_sub(log.longest_secret());
            text.truncate(text.floor_char_boundary(end.min(LONGEST_LINE)));
            text.push_str("... (cut)");
        }
        text
    }
}

/// Lines of a pipe; a line that is too long is cut, without showing a part of a secret.
struct Lines<R> {
    reader: Option<BufReader<R>>,
    line: Vec<u8>,
    /// The rest of a line that has been cut.
    skipping: bool,
    longest_secret: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(pipe: Option<R>, longest_secret: usize) -> Self {
        Self { reader: pipe.map(BufReader::new), line: Vec::new(), skipping: false, longest_secret }
    }

    fn is_open(&self) -> bool {
        self.reader.is_some()
    }

    /// The next line without its end; `None` once the pipe is closed. May be dropped in the middle without loss.
    async fn next(&mut self) -> Result<Option<OutputLine>, std::io::Error> {
        while let Some(reader) = &mut self.reader {
            let (used, complete) = Self::take(reader, &mut self.line, self.skipping).await?;
            if used == 0 {
                self.reader = None;
                let rest = std::mem::take(&mut self.line);
                return Ok((!rest.is_empty() && !self.skipping).then_some(OutputLine { bytes: rest, cut: false }));
            }
            if complete {
                let line = std::mem::take(&mut self.line);
                if !std::mem::take(&mut self.skipping) {
                    return Ok(Some(OutputLine { bytes: line, cut: false }));
                }
            } else if !self.skipping && self.line.len() > LONGEST_LINE + self.longest_secret {
                self.skipping = true;
                return Ok(Some(OutputLine { bytes: std::mem::take(&mut self.line), cut: true }));
            }
        }
        Ok(None)
    }

    /// Takes what is buffered up to the end of the line: how much, and whether the line is complete.
    async fn take(
        reader: &mut (impl AsyncBufRead + Unpin),
        line: &mut Vec<u8>,
        skipping: bool,
    ) -> Result<(usize, bool), std::io::Error> {
        let buffered = reader.fill_buf().await?;
        let end = buffered.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffered.len(), |end| end + 1);
        if !skipping {
            line.extend_from_slice(&buffered[..end.unwrap_or(used)]);
        }
        reader.consume(used);
        Ok((used, end.is_some()))
    }
}

/// The last lines of the output.
#[derive(Default)]
struct Tail(VecDeque<String>);

impl Tail {
    fn push(&mut self, line: &str) {
        if self.0.len() == SHOWN_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line.chars().take(400).collect());
    }

    fn last(&self) -> String {
        self.0.back().map_or_else(String::new, |line| format!("its last line: {line}"))
    }

    fn shown(&self) -> String {
        if self.0.is_empty() {
            return " It wrote nothing.".into();
        }
        let lines: Vec<&str> = self.0.iter().map(String::as_str).collect();
        format!(" Its last lines:\n{}", lines.join("\n"))
    }
}
