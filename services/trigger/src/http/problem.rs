//! Answers to requests that cannot be served, as `application/problem+json` (RFC 9457).

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// What was wrong, and what to do.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, title, detail: detail.into() }
    }

    pub(super) fn not_an_event() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "CDF-6101",
            "not a CloudEvent",
            "send `Content-Type: application/cloudevents+json` with the whole event, or `ce-*` headers with its data",
        )
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "CDF-6102", "malformed event", detail)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "CDF-6103",
            "event too large",
            format!("an event has at most {limit} bytes: put large data elsewhere and send a link"),
        )
    }

    pub(super) fn too_slow(limit: Duration) -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "CDF-6104",
            "body too slow",
            format!("the whole body must arrive within {} s", limit.as_secs()),
        )
    }

    pub(super) fn not_stored(error: &cdflow_bus::Error) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "CDF-6105",
            "not stored",
            format!("{error}. Send the same event again: it is taken once"),
        )
    }
}

impl From<cdflow_access::Error> for Problem {
    fn from(error: cdflow_access::Error) -> Self {
        use cdflow_access::{Denial, Error};
        match &error {
            Error::Denied(denial @ Denial::WrongKind { .. }) => {
                let detail = format!("{denial}: events take a CI token");
                Self::new(StatusCode::FORBIDDEN, "CDF-6001", "not allowed", detail)
            }
            Error::Denied(denial) => {
                Self::new(StatusCode::UNAUTHORIZED, "CDF-6001", "not authenticated", denial.to_string())
            }
            Error::Store(_) | Error::NoRandomness(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "CDF-6002",
                "tokens cannot be checked now",
                "send the same event again in a moment: it is taken once",
            ),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"cdflow\""));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            _ => {}
        }
        response
    }
}
