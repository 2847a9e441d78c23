//! Signing in by a link, and out.

use askama::Template;
use axum::{
    Form,
    extract::{Query, State},
    http::{HeaderMap, header},
    response::{AppendHeaders, IntoResponse as _, Redirect, Response},
};
use cdflow_protocol::wall_clock;
use serde::Deserialize;

use super::{failure, html};
use crate::{
    console::Console,
    http::{Failure, open_session},
};

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    viewer: Option<&'a str>,
    token: &'a str,
}

/// What a login link carries.
#[derive(Deserialize)]
pub(super) struct Link {
    #[serde(default)]
    token: String,
}

/// Uses nothing up: programs that look at links before people do would sign in otherwise.
pub(super) async fn page(Query(link): Query<Link>) -> Response {
    html(&SignInPage { viewer: None, token: &link.token })
}

pub(super) async fn sign_in(State(console): State<Console>, Form(link): Form<Link>) -> Response {
    match open_session(&console, &link.token).await {
        Ok(session) => {
            let seconds = session.expires_ms.map_or(0, |expires| expires.saturating_sub(wall_clock()) / 1_000);
            let cookie = console.cookie().set(&session.token, u64::try_from(seconds).unwrap_or(0));
            (AppendHeaders([(header::SET_COOKIE, cookie)]), Redirect::to("/")).into_response()
        }
        Err(error) => failure(&error),
    }
}

pub(super) async fn sign_out(State(console): State<Console>, headers: HeaderMap) -> Response {
    if let Some(token) = console.cookie().token(&headers)
        && let Err(error) = console.access().revoke(&token).await
    {
        return failure(&Failure::from(error));
    }
    (AppendHeaders([(header::SET_COOKIE, console.cookie().clear())]), Redirect::to("/login")).into_response()
}
