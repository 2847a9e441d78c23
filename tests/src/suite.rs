//! A whole suite, and what people do with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use cdflow_console::api::RunView;
use cdflow_testkit::free_port;
use serde::de::DeserializeOwned;

use crate::{Background, Shop, binary};

/// How to start a suite.
#[derive(Debug, Clone, Default)]
pub struct SuiteOptions {
    /// Endpoint of an OTLP receiver.
    pub otlp_endpoint: Option<String>,
}

/// `cdflow up` in the directory of a [`Shop`].
pub struct Suite {
    directory: PathBuf,
    arguments: Vec<String>,
    events: u16,
    console: u16,
    process: Background,
}

impl Suite {
    /// Starts the suite and waits until it is ready.
    ///
    /// # Errors
    /// When it is not ready within 60 s; its log is part of the error.
    pub async fn start(shop: &Shop, options: &SuiteOptions) -> Result<Self> {
        let (console, events) = (free_port(), free_port());
        let mut arguments = vec![
            "up".to_owned(),
            "--listen".to_owned(),
            format!("127.0.0.1:{console}"),
            "--listen-events".to_owned(),
            format!("127.0.0.1:{events}"),
        ];
        if let Some(endpoint) = &options.otlp_endpoint {
            arguments.extend(["--otlp-endpoint".to_owned(), endpoint.clone()]);
        }
        let directory = shop.directory().to_owned();
        let process = spawn(&arguments, &directory)?;
        let mut suite = Self { directory, arguments, events, console, process };
        suite.ready().await?;
        Ok(suite)
    }

    /// SIGKILL, and starts again on the same state.
    ///
    /// # Errors
    /// As [`Suite::start`].
    pub async fn kill_and_restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = spawn(&self.arguments, &self.directory)?;
        self.ready().await
    }

    /// Stops as `cdflow down` does.
    ///
    /// # Errors
    /// When it does not stop within 30 s.
    pub fn stop(&mut self) -> Result<()> {
        self.process.terminate(Duration::from_secs(30))
    }

    async fn ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        let url = format!("http://127.0.0.1:{}/readyz", self.console);
        let events = format!("http://127.0.0.1:{}/readyz", self.events);
        let http = reqwest::Client::new();
        loop {
            let mut all = true;
            for url in [&url, &events] {
                all &= http.get(url).send().await.is_ok_and(|answer| answer.status().is_success());
            }
            if all {
                return Ok(());
            }
            ensure!(self.process.is_running(), "the suite has ended:\n{}", self.process.output());
            ensure!(begun.elapsed() < Duration::from_secs(60), "the suite is not ready:\n{}", self.process.output());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Everything the suite has logged.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Runs the command line.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn cdflow(&self, arguments: &[&str]) -> Result<Output> {
        Ok(Command::new(binary("cdflow")?).args(arguments).current_dir(&self.directory).output()?)
    }

    /// Runs the command line and returns what it printed.
    ///
    /// # Errors
    /// When its exit code is not 0.
    pub fn done(&self, arguments: &[&str]) -> Result<String> {
        let output = self.cdflow(arguments)?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "cdflow {} failed ({}):\n{out}{err}", arguments.join(" "), output.status);
        Ok(out.into_owned())
    }

    /// Runs the command line with `--json`.
    ///
    /// # Errors
    /// When its exit code is not 0 or the answer is not `A`.
    pub fn json<A: DeserializeOwned>(&self, arguments: &[&str]) -> Result<A> {
        let text = self.done(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("the answer of cdflow {}: {text}", arguments.join(" ")))
    }

    /// Makes the command line act as a person.
    ///
    /// # Errors
    /// When the person is not known.
    pub fn log_in(&self, person: &str) -> Result<()> {
        let link = self.done(&["login-link", person])?;
        self.done(&["login", link.trim()]).map(|_| ())
    }

    /// Publishes the CI event of a version, as a build does at its end; returns the HTTP status.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn publish(&self, shop: &Shop, version: &str) -> Result<u16> {
        self.publish_event(shop, version, "1", "").await
    }

    /// As [`Suite::publish`], by another build of the same version.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn publish_as(&self, shop: &Shop, version: &str, build: &str) -> Result<u16> {
        self.publish_event(shop, version, build, "").await
    }

    /// As [`Suite::publish`], by a CI system that traces its builds: the event carries this W3C `traceparent`.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn publish_traced(&self, shop: &Shop, version: &str, traceparent: &str) -> Result<u16> {
        self.publish_event(shop, version, "1", traceparent).await
    }

    async fn publish_event(&self, shop: &Shop, version: &str, build: &str, traceparent: &str) -> Result<u16> {
        let (archive, digest) = shop.archive(version)?;
        let id = format!("storefront-{version}-{build}");
        let mut event = serde_json::json!({
            "specversion": "1.0", "id": id, "source": "/ci/storefront",
            "type": "dev.cdevents.artifact.published.0.2.0", "time": "2026-11-23T10:00:00Z",
            "datacontenttype": "application/json",
            "data": {
                "context": {
                    "version": "0.4.1", "id": id, "source": "/ci/storefront",
                    "type": "dev.cdevents.artifact.published.0.2.0", "timestamp": "2026-11-23T10:00:00Z",
                },
                "subject": {
                    "id": format!("pkg:generic/storefront@{version}?checksum={digest}&download_url=file:{archive}"),
                    "source": "/ci/storefront", "type": "artifact", "content": { "user": "ci" },
                },
            },
        });
        if !traceparent.is_empty() {
            event["traceparent"] = traceparent.into();
        }
        let answer = reqwest::Client::new()
            .post(format!("http://127.0.0.1:{}/v1/events", self.events))
            .bearer_auth(fs::read_to_string(self.directory.join(".cdflow/ci-token"))?.trim())
            .header("content-type", "application/cloudevents+json")
            .body(event.to_string())
            .send()
            .await?;
        Ok(answer.status().as_u16())
    }

    /// The run as the API shows it.
    ///
    /// # Errors
    /// When there is no such run or the console does not answer.
    pub async fn run(&self, run: &str) -> Result<RunView> {
        #[derive(serde::Deserialize)]
        struct Settings {
            token: String,
        }
        let settings: Settings = serde_json::from_slice(&fs::read(self.directory.join(".cdflow/client.json"))?)?;
        let url = format!("http://127.0.0.1:{}{}/runs/{run}", self.console, cdflow_console::api::BASE);
        let answer = reqwest::Client::new().get(url).bearer_auth(settings.token).send().await?;
        ensure!(answer.status().is_success(), "run {run}: status {}", answer.status());
        Ok(answer.json().await?)
    }

    /// Waits until a run is as wanted.
    ///
    /// # Errors
    /// When it is not within `within`: the run and the end of the log are part of the error.
    pub async fn until(
        &self,
        run: &str,
        within: Duration,
        what: &str,
        wanted: impl Fn(&RunView) -> bool,
    ) -> Result<RunView> {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < within {
            match self.run(run).await {
                Ok(view) if wanted(&view) => return Ok(view),
                Ok(view) => last = Some(view),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let seen = last.map(|view| serde_json::to_string_pretty(&view)).transpose()?.unwrap_or("nothing".into());
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        bail!(
            "run {run} is not {what} within {within:?}:\n{seen}\n{}",
            lines[lines.len().saturating_sub(30)..].join("\n")
        )
    }
}

fn spawn(arguments: &[String], directory: &Path) -> Result<Background> {
    Background::start(&binary("cdflow")?, arguments, directory, &directory.join("cdflow.log"))
}
