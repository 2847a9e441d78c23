//! `GET /readyz`: whether this console can do its work.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::console::Console;

/// More commits than this behind JOURNAL, and what is shown is called out of date.
const MOST_BEHIND: u64 = 10_000;

/// What `/readyz` answers, with 200 or 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Readiness {
    pub(crate) ready: bool,
    /// Commits of JOURNAL that are not projected yet; unset when the stream cannot be asked.
    pub(crate) behind: Option<u64>,
    /// What is wrong, and what to do.
    pub(crate) reasons: Vec<String>,
}

pub(super) async fn ready(State(console): State<Console>) -> Response {
    let mut reasons: Vec<String> = console.bus().health().borrow().clone().into_iter().collect();
    reasons.extend(console.progress().problem());
    let asked = tokio::time::timeout(Duration::from_secs(2), console.progress().behind(console.bus())).await;
    let behind = match asked {
        Ok(Ok(behind)) => Some(behind),
        Ok(Err(error)) => {
            reasons.push(format!("JOURNAL cannot be asked: {error}"));
            None
        }
        Err(_) => {
            reasons.push("JOURNAL does not answer within 2 s".into());
            None
        }
    };
    if behind.is_some_and(|behind| behind > MOST_BEHIND) {
        reasons.push("the read model is being built: what is shown is not up to date yet".into());
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: reasons.is_empty(), behind, reasons })).into_response()
}
