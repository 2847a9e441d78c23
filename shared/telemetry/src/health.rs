//! `/healthz` (the process runs) and `/readyz` (it can do its work) for orchestrators of containers.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::{Router, http::StatusCode, routing::get};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What is wrong now, if anything: see `cdflow_bus::Bus::health`.
pub type Check = watch::Receiver<Option<String>>;

/// Answers on `address` until `stop`; without one there is nothing to do. `/readyz` is 503 with the reasons while any
/// check has one.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(address: Option<SocketAddr>, checks: Vec<Check>, stop: CancellationToken) -> anyhow::Result<()> {
    match address {
        Some(address) => {
            answer(address, checks, stop).await.with_context(|| format!("answer health checks on {address}"))
        }
        None => Ok(()),
    }
}

async fn answer(address: SocketAddr, checks: Vec<Check>, stop: CancellationToken) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let router =
        Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(async move || ready(&checks)));
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await
}

/// The answer of `/readyz`, for services that have an HTTP server of their own.
pub fn ready(checks: &[Check]) -> (StatusCode, String) {
    let reasons: Vec<String> = checks.iter().filter_map(|check| check.borrow().clone()).collect();
    if reasons.is_empty() {
        (StatusCode::OK, "ready\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reasons.join("\n")))
    }
}
