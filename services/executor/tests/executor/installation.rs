//! A NATS server with an installation, and executors in processes of their own.

use std::{
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_nats::jetstream::consumer::pull;
use cdflow_bus::{Bus, NewInstallation, Options, install};
use cdflow_protocol::{
    streams, subjects,
    v1::{Fence, LogLine, RunSignal, ScriptTask, SignalBatch, Task, TaskResult, run_signal, task::Work},
};
use cdflow_testkit::{NatsServer, SyncMode};
use futures::StreamExt as _;
use prost::Message as _;
use tempfile::TempDir;

pub(crate) struct Installation {
    pub(crate) server: NatsServer,
    pub(crate) bus: Bus,
    pub(crate) directory: TempDir,
    next: AtomicU64,
}

/// An executor in a process of its own.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Installation {
    pub(crate) async fn new() -> Self {
        let server = NatsServer::start(SyncMode::Default).await.unwrap();
        let options = Options::new(server.url(), "test");
        install(&options, &NewInstallation::default()).await.unwrap();
        let bus = Bus::connect(&options).await.unwrap();
        Self {
            server,
            bus,
            directory: tempfile::Builder::new().prefix("run-").tempdir().unwrap(),
            next: AtomicU64::new(1),
        }
    }

    pub(crate) fn executor(&self, name: &str) -> Running {
        let log = std::fs::File::create(self.directory.path().join(format!("{name}.log"))).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_cdflow-executor"))
            .args(["--nats", &self.server.url(), "--instance", name, "--lease-seconds", "1"])
            .arg("--artifact-cache")
            .arg(self.directory.path().join("cache"))
            .env("CDFLOW_EXECUTOR_FINISH_SECONDS", "5")
            .env("DEPLOY_TOKEN", "token-of-the-executor")
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        Running(child)
    }

    pub(crate) async fn send_script(&self, script: ScriptTask) -> Task {
        self.send(Work::Script(script)).await
    }

    pub(crate) async fn send(&self, work: Work) -> Task {
        self.send_as(work, false).await
    }

    /// `resent`: as a journal marks what it sends again.
    pub(crate) async fn send_as(&self, work: Work, resent: bool) -> Task {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let task = Task {
            // Processes of a task are found by its id, on the whole machine.
            id: format!("{}-step-{number}", self.directory.path().file_name().unwrap().display()),
            worker: "executor".into(),
            pool: "default".into(),
            reply_aggregate: "run".into(),
            reply_id: "run-1".into(),
            run_id: "run-1".into(),
            stage_id: "prod".into(),
            step_id: format!("step-{number}"),
            attempt: 1,
            fence: Some(Fence { incarnation: 1, sequence: number, delivery: 0 }),
            step_key: format!("run-1.prod.step-{number}"),
            work: Some(work),
            resent,
            ..Default::default()
        };
        let subject = subjects::task("executor", "default", &task.id);
        self.bus.publish_stored(streams::TASKS, &subject, &task.id, "", task.encode_to_vec().into()).await.unwrap();
        task
    }

    pub(crate) async fn result(&self) -> TaskResult {
        let stream = self.bus.context().get_stream(streams::SIGNALS).await.unwrap();
        let config = pull::Config { durable_name: Some("reader".into()), ..Default::default() };
        let consumer = stream.get_or_create_consumer("reader", config).await.unwrap();
        let read = async {
            let mut messages = consumer.messages().await.unwrap();
            loop {
                let Some(Ok(message)) = messages.next().await else { continue };
                message.ack().await.unwrap();
                let signal = SignalBatch::decode(message.payload.clone()).unwrap().signals.remove(0);
                let signal = RunSignal::decode(signal.payload.as_slice()).unwrap();
                let Some(run_signal::Kind::TaskResult(result)) = signal.kind else { panic!("no result") };
                return result;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), read).await.expect("a result within a minute")
    }

    pub(crate) async fn run_script(&self, script: ScriptTask) -> (TaskResult, Vec<LogLine>) {
        let task = self.send_script(script).await;
        let result = self.result().await;
        (result, self.log_of(&task).await)
    }

    /// The lines of a step that has ended.
    pub(crate) async fn log_of(&self, task: &Task) -> Vec<LogLine> {
        let mut stream = self.bus.context().get_stream(streams::LOGS).await.unwrap();
        let last = stream.info().await.unwrap().state.last_sequence;
        let subject = subjects::log(&task.run_id, &task.stage_id, &task.step_id);
        let mut lines = Vec::new();
        for sequence in 1..=last {
            let message = stream.get_raw_message(sequence).await.unwrap();
            if message.subject.as_str() == subject {
                lines.push(LogLine::decode(message.payload).unwrap());
            }
        }
        lines.sort_by_key(|line| line.number);
        lines
    }
}

pub(crate) async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let wait = async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok(), "not within 30 s: {what}");
}
