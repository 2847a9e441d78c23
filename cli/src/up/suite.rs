//! All services in this process.

use std::{ffi::OsString, fs, future::Future, path::Path};

use anyhow::{Context as _, Result, bail};
use cdflow_access::{Access, KvTokens, TokenKind};
use cdflow_bus::{Bus, NewInstallation, Options as BusOptions, install};
use cdflow_protocol::wall_clock;
use clap::Args;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{UpOptions, nats::PrivateNats, write_connection, write_private};
use crate::{settings::Settings, show};

/// Who the command line is at first. The console lets it in until the first `Person` is applied; after that it is
/// somebody who logs in (`cdflow login-link`, `cdflow login`).
const OPERATOR: &str = "operator";

/// Runs until SIGTERM, SIGINT or the end of a service.
pub(super) async fn run(options: &UpOptions) -> Result<()> {
    let _telemetry = cdflow_telemetry::init("cdflow", &options.telemetry)?;
    let stop = cdflow_telemetry::stop_signal();
    let mut nats = PrivateNats::start(&options.state).await?;
    let result = with_nats(options, &mut nats, stop).await;
    nats.stop().await;
    result
}

async fn with_nats(options: &UpOptions, nats: &mut PrivateNats, stop: CancellationToken) -> Result<()> {
    let bus = nats.options().clone();
    let new = NewInstallation { max_bytes: room(&options.state)?, ..NewInstallation::default() };
    install(&bus, &new).await.context("create the streams")?;
    remember(options, &bus).await?;

    let mut services = JoinSet::new();
    start_all(options, &bus, &stop, &mut services)?;
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        reason = nats.ended() => Err(anyhow::anyhow!(reason)),
        Some(ended) = services.join_next() => ended.map_err(anyhow::Error::from).and_then(|ended| ended),
    };
    let asked = stop.is_cancelled();
    stop.cancel();
    while let Some(service) = services.join_next().await {
        if let Ok(Err(error)) = service {
            show::error(&format!("{error:#}"));
        }
    }
    match ended {
        Ok(()) if !asked => bail!("a service ended by itself"),
        ended => ended,
    }
}

/// What the streams may take: a quarter of the free disk, 16 GiB at most.
fn room(state: &Path) -> Result<i64> {
    let disk = rustix::fs::statvfs(state).context("look at the free disk")?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Ok(i64::try_from((free / 4).min(16 << 30))?)
}

fn start_all(
    options: &UpOptions,
    bus: &BusOptions,
    stop: &CancellationToken,
    services: &mut JoinSet<Result<()>>,
) -> Result<()> {
    let database = options.state.join("console.db");
    let console = [OsString::from("--listen"), options.listen.to_string().into(), "--database".into(), database.into()];
    let trigger = [OsString::from("--listen"), options.listen_events.to_string().into()];
    let notifier = [OsString::from("--console-url"), console_url(options).into()];
    let artifacts = [OsString::from("--artifact-cache"), options.state.join("artifacts").into()];
    // Several suites of one machine may share a cache by saying so.
    let artifacts: &[OsString] = if std::env::var_os("CDFLOW_ARTIFACT_CACHE").is_some() { &[] } else { &artifacts };
    let mut service = Starter { bus, stop, services };
    service.start("orchestrator", cdflow_orchestrator::run, &[])?;
    service.start("executor", cdflow_executor::run, artifacts)?;
    service.start("verifier", cdflow_verifier::run, &[])?;
    service.start("approval", cdflow_approval::run, &[])?;
    service.start("notifier", cdflow_notifier::run, &notifier)?;
    service.start("trigger", cdflow_trigger::run, &trigger)?;
    service.start("console", cdflow_console::run, &console)
}

struct Starter<'a> {
    bus: &'a BusOptions,
    stop: &'a CancellationToken,
    services: &'a mut JoinSet<Result<()>>,
}

impl Starter<'_> {
    /// Starts a service with its own defaults and connection; a service that ends ends the suite.
    fn start<O, F>(
        &mut self,
        name: &'static str,
        run: impl FnOnce(O, BusOptions, CancellationToken) -> F,
        arguments: &[OsString],
    ) -> Result<()>
    where
        O: Args,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let command = O::augment_args(clap::Command::new(name).no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).with_context(|| format!("options of {name}"))?;
        let service = run(O::from_arg_matches(&matches)?, self.bus.named(name), self.stop.clone());
        self.services.spawn(async move { service.await.with_context(|| format!("service {name}")) });
        Ok(())
    }
}

/// Where people and the command line reach the console.
fn console_url(options: &UpOptions) -> String {
    format!("http://{}", options.listen)
}

/// Leaves what the command line beside this process needs: where the server is, a session, a token for CI.
async fn remember(options: &UpOptions, bus: &BusOptions) -> Result<()> {
    let console = console_url(options);
    write_connection(&options.state, bus, &console)?;
    fs::write(options.state.join("trigger-url"), format!("http://{}", options.listen_events))?;

    let connected = Bus::connect(&bus.named("up")).await?;
    let access = Access::new(KvTokens::open(&connected).await?);
    if !options.state.join("client.json").exists() {
        let token = access.issue(TokenKind::Token, OPERATOR, None, wall_clock()).await?;
        let settings = Settings { server: console, token: token.expose().to_owned(), person: OPERATOR.into() };
        settings.save_in(&options.state)?;
    }
    keep_ci_token(&access, &options.state.join("ci-token")).await
}

async fn keep_ci_token(access: &Access, path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let token = access.issue(TokenKind::Ci, "ci", None, wall_clock()).await?;
    write_private(path, token.expose().as_bytes())
}
