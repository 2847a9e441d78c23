//! API, pages and the read model.
//!
//! # Promise
//! - The console holds no truth. What it shows is folded from JOURNAL into SQL and can be deleted at any time; what people
//!   ask for becomes a signal, and the aggregate that it is for decides and answers.
//! - Nobody gets in without a token of a known person; only health checks and the login page answer to everybody. Plain
//!   HTTP is served on loopback only, unless a proxy that ends TLS is said to be in front.
//! - A crash in the middle of a transaction leaves it done or not done, together with the position that it reached; a
//!   crash in the middle of a command leaves the signal stored or not, and a stored one takes effect all the same.
//!
//! ```no_run
//! # async fn example(options: cdflow_console::Options) -> anyhow::Result<()> {
//! use cdflow_bus::Options as BusOptions;
//!
//! let bus = BusOptions::new("nats://127.0.0.1:4222", "console");
//! let stop = cdflow_telemetry::stop_signal();
//! cdflow_console::run(options, bus, stop).await
//! # }
//! ```

pub mod api;
mod command;
mod console;
mod http;
mod options;
mod pages;
mod project;
mod read_model;
mod trimmer;

use std::time::Duration;

use anyhow::Context as _;
use cdflow_access::{Access, KvTokens};
use cdflow_bus::Bus;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use options::Options;
pub use read_model::{Database, Error as ReadModelError, archived_commits, archived_positions};

use console::{Console, Parts};
use read_model::{Changes, Progress, Projector};

/// Serves until `stop`.
///
/// # Errors
/// When the bus, the database or the address cannot be used, or JOURNAL does not continue what was projected.
pub async fn run(options: Options, bus_options: cdflow_bus::Options, stop: CancellationToken) -> anyhow::Result<()> {
    options.check()?;
    let listener = TcpListener::bind(options.listen).await.with_context(|| {
        format!("CDF-4005: the console cannot listen on {}: is another one running?", options.listen)
    })?;
    serve(options, bus_options, listener, stop).await
}

/// As [`run`], on a listener that is there already.
///
/// # Errors
/// As [`run`].
pub async fn serve(
    options: Options,
    bus_options: cdflow_bus::Options,
    listener: TcpListener,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    options.check()?;
    let bus = Bus::connect(&bus_options).await?;
    let database = Database::open(&options.database).await?;
    // Whatever ends first takes the rest with it.
    let stop = stop.child_token();
    let _stop_all = stop.clone().drop_guard();
    let store = bus.configuration().await?;
    let configuration = project::follow(store.clone(), options.project.clone(), stop.clone()).await?;
    let (changes, progress) = (Changes::default(), Progress::default());
    let projector = Projector::new(bus.clone(), database.clone(), changes.clone(), progress.clone());
    let until = stop.clone();
    let projecting = tokio::spawn(async move {
        let projected = projector.run(until.clone()).await;
        // What is shown would be wrong from here on.
        until.cancel();
        projected
    });
    let trimming = tokio::spawn(trimmer::run(bus.clone(), database.clone(), options.keep_commits, stop.clone()));
    let console = Console::new(Parts {
        access: Access::new(KvTokens::open(&bus).await?),
        bus,
        database: database.clone(),
        changes,
        progress,
        store,
        configuration,
        project: options.project,
        cookie: http::SessionCookie { secure: options.behind_tls_proxy },
        session_lifetime: Duration::from_secs(u64::from(options.session_hours) * 3_600),
        answer_within: Duration::from_secs(u64::from(options.answer_seconds)),
        stop: stop.clone(),
    });
    tracing::info!(address = %listener.local_addr()?, "the console answers");
    let until = stop.clone();
    axum::serve(listener, http::router(console)).with_graceful_shutdown(async move { until.cancelled().await }).await?;
    stop.cancel();
    projecting.await.context("the projector")??;
    trimming.await.context("the trimmer")?;
    database.close().await;
    Ok(())
}
