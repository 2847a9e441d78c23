//! Pages: rendered here, complete without scripts, and kept current by a small one.

mod assets;
mod board;
mod clock;
mod icon;
mod run;
mod sign_in;

use askama::Template;
use axum::{
    Router,
    http::StatusCode,
    response::{Html, IntoResponse as _, Response},
    routing::{get, post},
};

pub(crate) use run::run_fragment;

use crate::{console::Console, http::Failure};

/// For known people.
pub(crate) fn private() -> Router<Console> {
    Router::new()
        .route("/", get(board::page))
        .route("/runs/{run}", get(run::page))
        .route("/runs/{run}/approval", post(run::decide))
        .route("/runs/{run}/cancel", post(run::cancel))
        .route("/runs/{run}/rollback", post(run::roll_back))
        .route("/logout", post(sign_in::sign_out))
        .fallback(async |uri: axum::http::Uri| failure(&Failure::NotFound(format!("page {}", uri.path()))))
}

/// For everybody.
pub(crate) fn public() -> Router<Console> {
    Router::new().route("/login", get(sign_in::page).post(sign_in::sign_in)).route("/assets/{file}", get(assets::asset))
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    viewer: Option<&'a str>,
    title: &'a str,
    detail: &'a str,
    code: &'a str,
    signed_out: bool,
}

/// A problem as a page.
pub(crate) fn failure(failure: &Failure) -> Response {
    let problem = failure.problem();
    let page = ProblemPage {
        viewer: None,
        title: &problem.title,
        detail: &problem.detail,
        code: &problem.code,
        signed_out: problem.status == StatusCode::UNAUTHORIZED.as_u16(),
    };
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, html(&page)).into_response()
}

fn html(page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "CDF-4110: this page cannot be shown; the log of the console says why\n",
            )
                .into_response()
        }
    }
}
