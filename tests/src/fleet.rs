//! Every service in a process of its own, two of each that holds state, so that any of them can be killed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cdflow_access::{Access, KvTokens, TokenKind};
use cdflow_bus::{Bus, NewInstallation, Options as BusOptions, install};
use cdflow_console::api::{ConfigurationReplaced, DecideApproval, Document, ReplaceConfiguration, RunView, StartedRun};
use cdflow_testkit::{NatsServer, SyncMode, free_port};
use reqwest::StatusCode;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Background, binary};

/// A process of the fleet, and how to start it again.
pub struct Member {
    /// For example `executor-2`.
    pub name: String,
    program: PathBuf,
    arguments: Vec<String>,
    directory: PathBuf,
    process: Background,
}

impl Member {
    fn start(name: &str, program: &str, arguments: Vec<String>, directory: &Path) -> Result<Self> {
        let program = binary(program)?;
        let process = Background::start(&program, &arguments, directory, &log(directory, name))?;
        Ok(Self { name: name.to_owned(), program, arguments, directory: directory.to_owned(), process })
    }

    /// The process now running.
    pub fn process(&mut self) -> &mut Background {
        &mut self.process
    }

    /// SIGKILL, and starts it again.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn kill_and_restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.restart()
    }

    /// Starts it again after it has ended by itself or was killed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.process =
            Background::start(&self.program, &self.arguments, &self.directory, &log(&self.directory, &self.name))?;
        Ok(())
    }
}

fn log(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.log"))
}

/// A suite that runs apart.
pub struct Fleet {
    /// The server.
    pub nats: NatsServer,
    /// All services.
    pub members: Vec<Member>,
    /// A connection for looking into the journal.
    pub bus: Bus,
    directory: PathBuf,
    console: u16,
    token: String,
    http: reqwest::Client,
}

impl Fleet {
    /// Starts everything in a directory and logs in as a person, who must be among the documents applied later.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(directory: &Path, person: &str) -> Result<Self> {
        let nats = NatsServer::start(SyncMode::Always).await?;
        let options = BusOptions::new(nats.url(), "fleet");
        install(&options, &NewInstallation::default()).await?;
        let bus = Bus::connect(&options).await?;
        let access = Access::new(KvTokens::open(&bus).await?);
        let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_millis())?;
        let token = access.issue(TokenKind::Token, person, None, now).await?.expose().to_owned();
        let console = free_port();
        let mut fleet = Self {
            members: Vec::new(),
            bus,
            directory: directory.to_owned(),
            console,
            token,
            http: reqwest::Client::builder().timeout(Duration::from_secs(20)).build()?,
            nats,
        };
        for copy in [1, 2] {
            fleet.add("orchestrator", copy, &["--instance", &format!("orchestrator-{copy}")])?;
            fleet.add("executor", copy, &["--instance", &format!("executor-{copy}"), "--lease-seconds", "2"])?;
            fleet.add("verifier", copy, &[])?;
            fleet.add("approval", copy, &[])?;
            fleet.add("trigger", copy, &["--listen", &format!("127.0.0.1:{}", free_port())])?;
        }
        fleet.add("notifier", 1, &[])?;
        fleet.add("console", 1, &["--listen", &format!("127.0.0.1:{console}"), "--database", "console.db"])?;
        fleet.ready().await?;
        Ok(fleet)
    }

    fn add(&mut self, service: &str, copy: u32, arguments: &[&str]) -> Result<()> {
        let mut all = vec!["--nats".to_owned(), self.nats.url()];
        all.extend(arguments.iter().map(|text| (*text).to_owned()));
        let member = Member::start(&format!("{service}-{copy}"), &format!("cdflow-{service}"), all, &self.directory)?;
        self.members.push(member);
        Ok(())
    }

    /// Waits until the console answers.
    ///
    /// # Errors
    /// When it does not within 60 s.
    pub async fn ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        let url = format!("http://127.0.0.1:{}/readyz", self.console);
        while !self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            ensure!(begun.elapsed() < Duration::from_secs(60), "the console is not ready:\n{}", self.logs(20));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Makes documents the project's configuration.
    ///
    /// # Errors
    /// When they are refused.
    pub async fn apply(&self, documents: &str) -> Result<()> {
        let request = ReplaceConfiguration {
            documents: vec![Document { file: "cdflow.yaml".into(), text: documents.to_owned() }],
            ..Default::default()
        };
        let request = self.request(reqwest::Method::PUT, "/configuration").json(&request);
        let (status, text) = answer(request).await?;
        ensure!(status.is_success(), "{text}");
        serde_json::from_str::<ConfigurationReplaced>(&text).context("an answer")?;
        Ok(())
    }

    /// Starts a pipeline, asking again until it is answered: the same run id starts one run.
    ///
    /// # Errors
    /// When it is refused, or not answered within 60 s.
    pub async fn run(&self, pipeline: &str, version: &str, run_id: &str) -> Result<StartedRun> {
        let body = serde_json::json!({ "pipeline": pipeline, "version": version, "run_id": run_id });
        self.insist("/runs", &body).await
    }

    /// Approves whatever a run waits for. Being too late is no error.
    pub async fn approve(&self, run: &str) {
        let body = DecideApproval { approve: true, ..Default::default() };
        let _ = answer(self.request(reqwest::Method::POST, &format!("/runs/{run}/approval")).json(&body)).await;
    }

    /// A run as the API shows it; `None` while the console does not answer or does not know it yet.
    pub async fn look(&self, run: &str) -> Option<RunView> {
        let (status, text) = answer(self.request(reqwest::Method::GET, &format!("/runs/{run}"))).await.ok()?;
        if status.is_success() { serde_json::from_str(&text).ok() } else { None }
    }

    async fn insist<A: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<A> {
        let begun = Instant::now();
        loop {
            let last = match answer(self.request(reqwest::Method::POST, path).json(body)).await {
                Ok((status, text)) if status.is_success() => return Ok(serde_json::from_str(&text)?),
                Ok((status, text)) => {
                    ensure!(status.is_server_error(), "{path}: {status} {text}");
                    text
                }
                Err(error) => format!("{error:#}"),
            };
            ensure!(begun.elapsed() < Duration::from_secs(60), "{path} is not answered: {last}\n{}", self.logs(20));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://127.0.0.1:{}{}{path}", self.console, cdflow_console::api::BASE);
        self.http.request(method, url).bearer_auth(&self.token)
    }

    /// The last lines of every service's log.
    pub fn logs(&self, lines: usize) -> String {
        let tail = |member: &Member| {
            let text = fs::read_to_string(log(&self.directory, &member.name)).unwrap_or_default();
            let all: Vec<&str> = text.lines().collect();
            format!("--- {}\n{}\n", member.name, all[all.len().saturating_sub(lines)..].join("\n"))
        };
        self.members.iter().map(tail).collect()
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<(StatusCode, String)> {
    let answer = request.send().await?;
    Ok((answer.status(), answer.text().await?))
}
