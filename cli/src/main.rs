//! `cdflow`: the command line, and the whole suite in one process.

mod client;
mod commands;
mod exit;
mod settings;
mod show;
mod sse;
mod up;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use cdflow_telemetry::TelemetryOptions;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::client::Client;

/// Carries what CI has built to production: deploys, verifies, asks, watches, rolls back.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct CommandLine {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the run failed or the journal is damaged, 2 wrong usage or documents, 3 refused, \
                          4 not logged in, 5 no answer";

/// What every command understands.
#[derive(clap::Args)]
struct Global {
    /// Base URL of the console; what `cdflow login` remembered unless set.
    #[arg(long, env = "CDFLOW_SERVER", global = true)]
    server: Option<String>,
    /// Session token; what `cdflow login` remembered unless set.
    #[arg(long, env = "CDFLOW_TOKEN", global = true, hide_env_values = true)]
    token: Option<String>,
    /// Answer in JSON, for scripts.
    #[arg(long, global = true)]
    json: bool,
}

impl Global {
    fn client(&self) -> Result<Client> {
        Client::new(self.server.as_deref(), self.token.as_deref())
    }
}

#[derive(Subcommand)]
enum Command {
    /// Start the whole suite in one process, with a private NATS server.
    Up(up::UpOptions),
    /// Stop a suite that `cdflow up --detach` started.
    Down(up::DownOptions),
    /// Create the streams of an installation whose services run apart; an existing one is left as it is.
    Install(commands::install::InstallOptions),
    /// Write a working first set of documents into a directory.
    Init(commands::configuration::InitOptions),
    /// Check documents offline; every error says where, what and what instead.
    Validate(commands::configuration::ValidateOptions),
    /// Check documents and make them the project's configuration.
    Apply(commands::configuration::ApplyOptions),
    /// Print the JSON Schema of the documents, for editors.
    Schema,
    /// Deploy a version to an environment without a pipeline; the environment's rules hold.
    Deploy(commands::run::DeployOptions),
    /// Start, watch, cancel or roll back a run.
    #[command(subcommand)]
    Run(commands::run::RunCommand),
    /// List runs, newest first.
    Runs(commands::look::RunsOptions),
    /// Say what a run waits for, since when, and what would release it.
    Explain(commands::look::RunOption),
    /// Show every stored event of a run.
    Events(commands::look::RunOption),
    /// Print the output of a run's steps.
    Logs(commands::look::LogsOptions),
    /// Show what version is where, what is on its way, and what waits for whom.
    Board,
    /// Approve what a run waits for.
    Approve(commands::approval::ApproveOptions),
    /// Reject what a run waits for.
    Reject(commands::approval::RejectOptions),
    /// What CI published, and what it started.
    #[command(subcommand)]
    Trigger(commands::look::TriggerCommand),
    /// Open a login link, and remember the session.
    Login(commands::login::LoginOptions),
    /// Make a login link for a person (needs the installation's own credentials).
    LoginLink(commands::login::LoginLinkOptions),
    /// Say who the console thinks we are.
    Whoami,
    /// Check or restore the journal (needs the installation's own credentials).
    #[command(subcommand)]
    Journal(commands::journal::JournalCommand),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let CommandLine { global, command } = CommandLine::parse();
    // Before the runtime starts its threads: a detached suite is another process.
    let result = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from);
    match result.and_then(|runtime| runtime.block_on(perform(global, command))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}

async fn perform(global: Global, command: Command) -> Result<()> {
    use commands::{approval, configuration, install, journal, login, look, run};
    match command {
        Command::Up(options) => up::up(options).await,
        Command::Down(options) => up::down(&options).await,
        Command::Install(options) => install::install(&options).await,
        Command::Init(options) => configuration::init(&options),
        Command::Validate(options) => configuration::validate(&options, global.json),
        Command::Apply(options) => configuration::apply(&global.client()?, &options, global.json).await,
        Command::Schema => show::json(&cdflow_pipeline::schema()),
        Command::Deploy(options) => run::deploy(&global.client()?, options, global.json).await,
        Command::Run(command) => run::run(&global.client()?, command, global.json).await,
        Command::Runs(options) => look::runs(&global.client()?, &options, global.json).await,
        Command::Explain(options) => look::explain(&global.client()?, &options, global.json).await,
        Command::Events(options) => look::events(&global.client()?, &options, global.json).await,
        Command::Logs(options) => look::logs(&global.client()?, &options, global.json).await,
        Command::Board => look::board(&global.client()?, global.json).await,
        Command::Approve(options) => approval::approve(&global.client()?, options, global.json).await,
        Command::Reject(options) => approval::reject(&global.client()?, options, global.json).await,
        Command::Trigger(command) => look::trigger(&global.client()?, &command, global.json).await,
        Command::Login(options) => login::login(&options).await,
        Command::LoginLink(options) => login::login_link(&options).await,
        Command::Whoami => login::whoami(&global.client()?, global.json).await,
        Command::Journal(command) => journal::journal(command, global.json).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut CommandLine::command(), "cdflow", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// How the commands that bypass the console find the installation.
#[derive(Debug, Clone, clap::Args)]
struct Installation {
    /// State directory of a `cdflow up`.
    #[arg(long, default_value = settings::STATE_DIRECTORY)]
    state: PathBuf,
    /// NATS servers of an installation that runs apart, instead of `--state`.
    #[arg(long, env = "CDFLOW_NATS")]
    nats: Option<String>,
    /// File with `name:password` or the seed of an nkey user.
    #[arg(long, env = "CDFLOW_NATS_CREDENTIALS_FILE")]
    nats_credentials_file: Option<PathBuf>,
}

impl Installation {
    fn bus(&self, service: &str) -> Result<cdflow_bus::Options> {
        match &self.nats {
            Some(nats) => cdflow_telemetry::ServiceOptions {
                nats: nats.clone(),
                nats_credentials_file: self.nats_credentials_file.clone(),
                telemetry: TelemetryOptions::default(),
            }
            .bus(service),
            None => up::private_bus(&self.state, service),
        }
    }
}
