//! A small shop: readiness, Prometheus metrics, a few pages. What a version does differently stands in the
//! `release.json` of its archive, so that good, slow and faulty versions share one program.
//!
//! The payment provider fails now and then whatever the version: a real service has errors, and a judge must tell them
//! from those of a bad release.

mod metrics;
mod release;

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{MatchedPath, Query, Request, State},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use clap::Parser;
use serde::Deserialize;

use crate::{metrics::Metrics, release::Release};

/// Sells things until it is told to stop.
#[derive(Parser)]
struct Arguments {
    /// Port on 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// What this version does differently.
    #[arg(long, default_value = "release.json")]
    release: PathBuf,
}

struct Shop {
    release: Release,
    metrics: Metrics,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let text =
        std::fs::read_to_string(&arguments.release).with_context(|| format!("read {}", arguments.release.display()))?;
    let release: Release =
        serde_json::from_str(&text).with_context(|| format!("understand {}", arguments.release.display()))?;
    let shop = Arc::new(Shop { release, metrics: Metrics::new() });

    let pages = Router::new()
        .route("/", get(async || "Welcome to the storefront.\n"))
        .route("/products", get(async || "socks 4.00\nlamp 31.50\nteapot 22.00\n"))
        .route("/version", get(version))
        .route("/checkout", post(checkout))
        .route_layer(middleware::from_fn_with_state(shop.clone(), observe));
    let app = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/metrics", get(async |State(shop): State<Arc<Shop>>| shop.metrics.text()))
        .merge(pages)
        .with_state(shop);

    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await?;
    axum::serve(listener, app).with_graceful_shutdown(terminated()).await?;
    Ok(())
}

async fn terminated() {
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        terminate.recv().await;
    }
}

/// Counts and times every request, and says which version answered.
async fn observe(State(shop): State<Arc<Shop>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or_else(String::new, |path| path.as_str().to_owned());
    let begun = std::time::Instant::now();
    if shop.release.extra_latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(shop.release.extra_latency_ms)).await;
    }
    let mut response = next.run(request).await;
    shop.metrics.count(&route, response.status().as_u16(), begun.elapsed());
    if let Ok(version) = HeaderValue::from_str(&shop.release.version) {
        response.headers_mut().insert(HeaderName::from_static("x-storefront-version"), version);
    }
    response
}

async fn version(State(shop): State<Arc<Shop>>) -> String {
    format!("{}\n", shop.release.version)
}

#[derive(Deserialize)]
struct Checkout {
    /// Only customers in production use discount codes: nobody thought of them in the tests.
    code: Option<String>,
}

async fn checkout(State(shop): State<Arc<Shop>>, Query(checkout): Query<Checkout>) -> (StatusCode, &'static str) {
    if rand::random_bool(shop.release.payment_failures) {
        return (StatusCode::BAD_GATEWAY, "the payment provider did not answer\n");
    }
    if checkout.code.is_some() && rand::random_bool(shop.release.discount_failures) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the discount code could not be applied\n");
    }
    (StatusCode::OK, "thank you\n")
}
