//! The live page of a run.

mod view;

use askama::Template;
use axum::{
    Extension, Form,
    extract::{Path, State},
    response::{IntoResponse as _, Redirect, Response},
};
use serde::Deserialize;

use self::view::RunPart;
use super::{failure, html};
use crate::{
    api::{CancelRun, CommandAnswer, DecideApproval, RollBackRun, RunView},
    console::Console,
    http::{self, Failure, Viewer},
};

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage<'a> {
    viewer: Option<&'a str>,
    part: RunPart,
}

#[derive(Template)]
#[template(path = "run_part.html")]
struct Fragment {
    part: RunPart,
}

pub(super) async fn page(
    State(console): State<Console>,
    Extension(viewer): Extension<Viewer>,
    Path(run): Path<String>,
) -> Response {
    match console.run(&run).await {
        Ok(run) => whole(&run, &viewer),
        Err(error) => failure(&error),
    }
}

fn whole(run: &RunView, viewer: &Viewer) -> Response {
    html(&RunPage { viewer: Some(&viewer.person), part: RunPart::of(run, &viewer.person) })
}

/// The part of the page that changes, for one viewer.
pub(crate) fn run_fragment(run: &RunView, viewer: &Viewer) -> String {
    let fragment = Fragment { part: RunPart::of(run, &viewer.person) };
    fragment.render().unwrap_or_else(|error| {
        tracing::error!(%error, "a part of a page cannot be rendered");
        String::new()
    })
}

/// A form of the page.
#[derive(Deserialize)]
pub(super) struct Decision {
    decision: String,
    #[serde(default)]
    comment: String,
    stage: String,
}

pub(super) async fn decide(
    State(console): State<Console>,
    Extension(viewer): Extension<Viewer>,
    Path(run): Path<String>,
    Form(form): Form<Decision>,
) -> Response {
    let approve = match form.decision.as_str() {
        "approve" => true,
        "reject" => false,
        other => return failure(&Failure::BadRequest(format!("a decision is approve or reject, not {other:?}"))),
    };
    let request = DecideApproval { approve, comment: form.comment, stage: Some(form.stage) };
    back(&run, http::approve(&console, &viewer, &run, request).await)
}

/// A form of the page.
#[derive(Deserialize)]
pub(super) struct Why {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    stage: String,
}

pub(super) async fn cancel(
    State(console): State<Console>,
    Extension(viewer): Extension<Viewer>,
    Path(run): Path<String>,
    Form(form): Form<Why>,
) -> Response {
    back(&run, http::cancel(&console, &viewer, &run, CancelRun { reason: form.reason }).await)
}

pub(super) async fn roll_back(
    State(console): State<Console>,
    Extension(viewer): Extension<Viewer>,
    Path(run): Path<String>,
    Form(form): Form<Why>,
) -> Response {
    let stage = Some(form.stage).filter(|stage| !stage.is_empty());
    back(&run, http::roll_back(&console, &viewer, &run, RollBackRun { stage, reason: form.reason }).await)
}

/// To the page of the run, which shows what became of it.
fn back(run: &str, answer: Result<CommandAnswer, Failure>) -> Response {
    match answer {
        Ok(_) if run.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
            Redirect::to(&format!("/runs/{run}")).into_response()
        }
        Ok(_) => Redirect::to("/").into_response(),
        Err(error) => failure(&error),
    }
}
