//! An owner of partitions in a process of its own, and the handle on it.

use std::{
    io::Write as _,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use cdflow_engine::Run;
use cdflow_journal::{JournalMetrics, JournalOptions, NoObserver};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::{options::Own, whole::connect};

/// How often an owner looks at itself.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What an owner says about itself, as lines of JSON on its standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owning {
    /// Partitions that it owns.
    pub(crate) partitions: u64,
    /// Live runs in its memory.
    pub(crate) live: u64,
}

/// The process: owns runs until its standard input ends.
pub(crate) async fn run(own: &Own) -> Result<()> {
    let bus = connect(&own.nats, &own.instance).await?;
    let options = JournalOptions::new(&own.instance);
    let metrics = options.metrics.clone();
    let stop = CancellationToken::new();
    let telling = tokio::spawn(tell(metrics));
    let stopping = stop.clone();
    tokio::spawn(async move {
        // The parent writes nothing: this ends when it has closed its end, or is gone.
        let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
        stopping.cancel();
    });
    let served = cdflow_journal::serve::<Run>(bus, options, Arc::new(NoObserver), stop).await;
    telling.abort();
    Ok(served?)
}

async fn tell(metrics: Arc<JournalMetrics>) -> Result<()> {
    let mut told = None;
    loop {
        let now = Owning { partitions: metrics.partitions.get(), live: metrics.live.get() };
        if told != Some(now) {
            told = Some(now);
            writeln!(std::io::stdout(), "{}", serde_json::to_string(&now)?)?;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A running owner; killed when dropped.
pub(crate) struct OwnerProcess {
    child: Child,
    owning: watch::Receiver<Owning>,
    _stdin: Option<ChildStdin>,
}

impl OwnerProcess {
    /// Starts this program again.
    pub(crate) fn start(url: &str, instance: &str) -> Result<Self> {
        let program = std::env::current_exe().context("the path of this program")?;
        let mut child = Command::new(program)
            .args(["own", "--nats", url, "--instance", instance])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start an owner")?;
        let stdout = child.stdout.take().context("an owner's standard output")?;
        let (tell, owning) = watch::channel(Owning::default());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(now) = serde_json::from_str(&line) {
                    tell.send_replace(now);
                }
            }
        });
        let stdin = child.stdin.take();
        Ok(Self { child, owning, _stdin: stdin })
    }

    /// What it said last.
    pub(crate) fn owning(&self) -> Owning {
        *self.owning.borrow()
    }

    /// Waits until it says so.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        wanted: impl FnMut(&Owning) -> bool,
        limit: Duration,
    ) -> Result<()> {
        let waited = tokio::time::timeout(limit, self.owning.wait_for(wanted)).await.map(|found| found.is_ok());
        match waited {
            Ok(true) => Ok(()),
            Ok(false) => bail!("an owner ended while waiting: {what}"),
            Err(_) => bail!("not within {limit:?}: {what}; it says {:?}", self.owning()),
        }
    }

    /// Its process id, until it was killed.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("an owner has ended")
    }

    /// SIGKILL: it can neither finish nor say that it is gone. Returns when that was.
    pub(crate) async fn kill(mut self) -> Result<Instant> {
        let at = Instant::now();
        self.child.kill().await.context("kill an owner")?;
        Ok(at)
    }
}
