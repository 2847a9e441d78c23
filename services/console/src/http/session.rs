//! Coming and going.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{State, rejection::JsonRejection},
    http::{HeaderMap, header},
    response::{AppendHeaders, IntoResponse},
};
use cdflow_protocol::wall_clock;

use super::{Failure, Viewer};
use crate::{
    api::{CommandAnswer, Login, Me, Session},
    console::Console,
};

/// Uses up a login link.
pub(crate) async fn open_session(console: &Console, link: &str) -> Result<Session, Failure> {
    let lifetime: Duration = console.session_lifetime();
    let (token, grant) = console.access().exchange(link.trim(), lifetime, wall_clock()).await?;
    tracing::info!(person = %grant.person, "signed in");
    Ok(Session {
        token: token.expose().to_owned(),
        person: grant.person,
        expires_ms: (grant.expires > 0).then_some(grant.expires),
    })
}

pub(super) async fn login(
    State(console): State<Console>,
    login: Result<Json<Login>, JsonRejection>,
) -> Result<Json<Session>, Failure> {
    let Json(login) = login?;
    Ok(Json(open_session(&console, &login.token).await?))
}

pub(super) async fn logout(State(console): State<Console>, headers: HeaderMap) -> Result<impl IntoResponse, Failure> {
    if let Some(token) = console.cookie().token(&headers) {
        console.access().revoke(&token).await?;
    }
    let cleared = AppendHeaders([(header::SET_COOKIE, console.cookie().clear())]);
    Ok((
        cleared,
        Json(CommandAnswer { handled: true, message: "signed out: this token is refused from now on".into() }),
    ))
}

pub(super) async fn me(Extension(viewer): Extension<Viewer>) -> Json<Me> {
    Json(Me { person: viewer.person, groups: viewer.groups })
}
