//! Who asks, and whether the request is their own. One middleware in front of everything but health and login.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use cdflow_access::bearer_token;
use cdflow_protocol::wall_clock;

use super::Failure;
use crate::{console::Console, pages};

/// The person who asks; in the extensions of every request that is let in.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    pub(crate) person: String,
    pub(crate) groups: Vec<String>,
    /// How they ask: `cli` (a token in a header) or `page` (a cookie).
    pub(crate) channel: Channel,
}

/// How a person reaches the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    CommandLine,
    Page,
}

impl Channel {
    /// As kept with a decision.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::CommandLine => "cli",
            Self::Page => "page",
        }
    }
}

/// Lets known people in, and nobody else.
pub(crate) async fn known_people_only(State(console): State<Console>, mut request: Request, next: Next) -> Response {
    let page = !request.uri().path().starts_with(crate::api::BASE);
    match identify(&console, request.method(), request.headers()).await {
        Ok(viewer) => {
            request.extensions_mut().insert(viewer);
            next.run(request).await
        }
        Err(failure) if page => pages::failure(&failure).into_response(),
        Err(failure) => failure.into_response(),
    }
}

/// For what changes something without a session, which is login: refuses a request that says it comes from elsewhere.
pub(crate) async fn not_from_elsewhere(request: Request, next: Next) -> Response {
    if changes_something(request.method()) && origin(request.headers()) == Origin::Elsewhere {
        return Failure::CrossOrigin.into_response();
    }
    next.run(request).await
}

async fn identify(console: &Console, method: &Method, headers: &HeaderMap) -> Result<Viewer, Failure> {
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    let (token, channel) = match (authorization, console.cookie().read(headers)) {
        (Some(header), _) => {
            let token = bearer_token(Some(header)).map_err(cdflow_access::Error::from)?;
            (token.to_owned(), Channel::CommandLine)
        }
        (None, Some(cookie)) => (cookie, Channel::Page),
        (None, None) => return Err(cdflow_access::Error::from(cdflow_access::Denial::Missing).into()),
    };
    let origin = origin(headers);
    // A browser sends the cookie with requests that other sites make, so with a cookie the origin must be shown.
    let trusted = match channel {
        Channel::CommandLine => origin != Origin::Elsewhere,
        Channel::Page => origin == Origin::Same,
    };
    if changes_something(method) && !trusted {
        return Err(Failure::CrossOrigin);
    }
    let grant = console.access().authenticate(&token, wall_clock()).await?;
    let configuration = console.configuration();
    if !configuration.knows(&grant.person) {
        return Err(Failure::NotAPerson(grant.person));
    }
    let groups = configuration.directory().groups_of(&grant.person);
    Ok(Viewer { person: grant.person, groups, channel })
}

fn changes_something(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Where a request comes from, as the browser says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Same,
    Elsewhere,
    /// Not a browser, or one that does not say.
    Unsaid,
}

/// `Sec-Fetch-Site` where the browser sends it (on trustworthy origins), else `Origin` against `Host`.
fn origin(headers: &HeaderMap) -> Origin {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some("same-origin"), _, _) => Origin::Same,
        (Some(_), _, _) => Origin::Elsewhere,
        (None, Some(origin), Some(host)) => {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            if authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
                Origin::Same
            } else {
                Origin::Elsewhere
            }
        }
        (None, Some(_), None) => Origin::Elsewhere,
        (None, None, _) => Origin::Unsaid,
    }
}

/// The cookie that holds a browser's session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionCookie {
    /// Only over TLS; the name then binds it to this host as well.
    pub(crate) secure: bool,
}

impl SessionCookie {
    fn name(self) -> &'static str {
        if self.secure { "__Host-cdflow-session" } else { "cdflow-session" }
    }

    fn read(self, headers: &HeaderMap) -> Option<String> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == self.name())
            .map(|(_, token)| token.to_owned())
    }

    /// Value of `Set-Cookie` for a session.
    pub(crate) fn set(self, token: &str, seconds: u64) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}", self.name())
    }

    /// Value of `Set-Cookie` that ends it.
    pub(crate) fn clear(self) -> String {
        self.set("", 0)
    }

    /// The token that a request brought, wherever it was.
    pub(crate) fn token(self, headers: &HeaderMap) -> Option<String> {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        bearer_token(authorization).ok().map(ToOwned::to_owned).or_else(|| self.read(headers))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_the_page_itself_has_the_same_origin() {
        let cases = [
            (&[("sec-fetch-site", "same-origin")][..], Origin::Same),
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://h:1"), ("host", "h:1")][..], Origin::Elsewhere),
            (&[("sec-fetch-site", "same-site")][..], Origin::Elsewhere),
            (&[("origin", "http://h:1"), ("host", "h:1")][..], Origin::Same),
            (&[("origin", "http://h:2"), ("host", "h:1")][..], Origin::Elsewhere),
            (&[("origin", "null"), ("host", "h:1")][..], Origin::Elsewhere),
            (&[("host", "h:1")][..], Origin::Unsaid),
        ];
        for (pairs, expected) in cases {
            assert_eq!(origin(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn the_session_is_found_among_other_cookies_and_bound_to_the_host_over_tls() {
        let plain = SessionCookie { secure: false };
        let found = plain.read(&headers(&[("cookie", "a=b; cdflow-session=cdf_x; c=d")]));
        assert_eq!(found.as_deref(), Some("cdf_x"));
        let secure = SessionCookie { secure: true };
        assert_eq!(secure.read(&headers(&[("cookie", "cdflow-session=cdf_x")])), None);
        assert_eq!(
            secure.set("cdf_x", 60),
            "__Host-cdflow-session=cdf_x; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure"
        );
    }
}
