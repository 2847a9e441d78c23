//! The HTTP edge: routes, who may use them, and what every answer carries.

mod answers;
mod board;
mod commands;
mod configuration;
mod identity;
mod live;
mod logs;
mod problem;
mod readiness;
mod session;

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};

pub(crate) use commands::{approve, cancel, roll_back};
pub(crate) use identity::{SessionCookie, Viewer};
pub(crate) use problem::Failure;
pub(crate) use session::open_session;

use crate::{api, console::Console, pages};

/// Largest request except for a configuration, in bytes.
const LARGEST_REQUEST: usize = 256 << 10;
/// Largest configuration, in bytes; the store takes less than a megabyte.
const LARGEST_CONFIGURATION: usize = 2 << 20;

/// Everything that is served.
pub(crate) fn router(console: Console) -> Router {
    let api = Router::new()
        .route("/runs", get(answers::runs).post(commands::start_run))
        .route("/runs/{run}", get(answers::run))
        .route("/runs/{run}/watch", get(live::watch))
        .route("/runs/{run}/explain", get(answers::explanation))
        .route("/runs/{run}/logs", get(logs::stream))
        .route("/runs/{run}/events", get(answers::history))
        .route("/runs/{run}/cancel", post(commands::cancel_run))
        .route("/runs/{run}/rollback", post(commands::roll_back_run))
        .route("/runs/{run}/approval", post(commands::decide_approval))
        .route("/deployments", post(commands::start_deployment))
        .route("/board", get(board::board))
        .route("/trigger/log", get(answers::trigger_log))
        .route(
            "/configuration",
            get(configuration::read).put(configuration::replace).layer(DefaultBodyLimit::max(LARGEST_CONFIGURATION)),
        )
        .route("/logout", post(session::logout))
        .route("/me", get(session::me))
        .fallback(answers::nothing_here);
    let known = Router::new()
        .nest(api::BASE, api)
        .merge(pages::private())
        .route("/runs/{run}/live", get(live::fragments))
        .route("/runs/{run}/log.txt", get(logs::text))
        .layer(middleware::from_fn_with_state(console.clone(), identity::known_people_only));
    let open = Router::new()
        .route(&format!("{}/login", api::BASE), post(session::login))
        .merge(pages::public())
        .layer(middleware::from_fn(identity::not_from_elsewhere))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness::ready))
        .route(&format!("{}/healthz", api::BASE), get(async || "ok\n"))
        .route(&format!("{}/readyz", api::BASE), get(readiness::ready));
    Router::new()
        .merge(known)
        .merge(open)
        .layer(DefaultBodyLimit::max(LARGEST_REQUEST))
        .layer(middleware::from_fn(protected))
        .layer(tower_http::trace::TraceLayer::new_for_http().make_span_with(request_span))
        .with_state(console)
}

/// Without the query: a login link carries its token there.
///
/// What changes something goes on in the trace of its caller, and is exported: the signal that it sends names it, and
/// a run that a person starts hangs below it. Looking is logged only: pages and probes look all the time.
fn request_span(request: &Request) -> tracing::Span {
    let (method, path) = (request.method(), request.uri().path());
    if method.is_safe() {
        return tracing::info_span!(target: "http", "request", %method, path);
    }
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request",
        %method,
        path,
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = %method,
        http.route = route,
        url.path = path,
        cdflow.service = "console",
    );
    let caller = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    cdflow_telemetry::adopt(&span, caller.unwrap_or_default());
    span
}

/// Headers of every answer: nothing is loaded from elsewhere, framed, sniffed, or kept.
async fn protected(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
