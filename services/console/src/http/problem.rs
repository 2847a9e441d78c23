//! Errors as people and programs get them.

use axum::{
    Json,
    extract::rejection::{JsonRejection, PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{
    api::{DiagnosticView, PROBLEM_JSON, Problem},
    command, read_model,
};

/// Why a request was not done. Each has a stable code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    NotSignedIn(String),
    #[error("{0} is not a person of this project's configuration: ask somebody who may `cdflow apply` to add a Person")]
    NotAPerson(String),
    #[error(
        "the request came from another site, or the browser did not say where from: open the page itself and repeat it there; programs send `Authorization: Bearer …`"
    )]
    CrossOrigin,
    #[error("there is no {0}")]
    NotFound(String),
    #[error("{0}")]
    BadRequest(String),
    #[error("{message}")]
    Refused { code: String, message: String },
    #[error("the configuration has errors; nothing was changed")]
    Invalid(Vec<DiagnosticView>),
    #[error(
        "the configuration is at revision {found}, not {expected}: somebody else was faster. Read it again and repeat"
    )]
    Conflict { expected: u64, found: u64 },
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Internal(String),
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotSignedIn(_) => StatusCode::UNAUTHORIZED,
            Self::NotAPerson(_) | Self::CrossOrigin => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Refused { .. } | Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::NotSignedIn(_) => "CDF-4101",
            Self::NotAPerson(_) => "CDF-4102",
            Self::CrossOrigin => "CDF-4103",
            Self::NotFound(_) => "CDF-4104",
            Self::BadRequest(_) => "CDF-4105",
            Self::Refused { code, .. } => code,
            Self::Invalid(_) => "CDF-4106",
            Self::Conflict { .. } => "CDF-4107",
            Self::TooLarge(_) => "CDF-4108",
            Self::Unavailable(_) => "CDF-4109",
            Self::Internal(_) => "CDF-4110",
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::NotSignedIn(_) => "Not signed in",
            Self::NotAPerson(_) => "Not a known person",
            Self::CrossOrigin => "Refused: another site asked",
            Self::NotFound(_) => "Not found",
            Self::BadRequest(_) => "The request is not understood",
            Self::Refused { .. } => "Refused",
            Self::Invalid(_) => "The configuration has errors",
            Self::Conflict { .. } => "Somebody else was faster",
            Self::TooLarge(_) => "Too large",
            Self::Unavailable(_) => "Not possible now",
            Self::Internal(_) => "The console failed",
        }
    }

    /// As programs get it.
    pub(crate) fn problem(&self) -> Problem {
        Problem {
            code: self.code().to_owned(),
            title: self.title().to_owned(),
            status: self.status().as_u16(),
            detail: self.to_string(),
            diagnostics: match self {
                Self::Invalid(diagnostics) => diagnostics.clone(),
                _ => Vec::new(),
            },
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = self.problem();
        if self.status().is_server_error() {
            tracing::warn!(code = problem.code, detail = problem.detail, "a request failed");
        }
        let mut response = (self.status(), Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if matches!(self, Self::NotSignedIn(_)) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"cdflow\""));
        }
        response
    }
}

impl From<read_model::Error> for Failure {
    fn from(error: read_model::Error) -> Self {
        // What the driver says can hold paths and values: it belongs into the log.
        tracing::error!(%error, "the read model");
        match error {
            read_model::Error::Database { what, .. } => {
                Self::Internal(format!("the read model cannot be {what}: the log of the console says why"))
            }
            read_model::Error::Journal(_) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<cdflow_bus::Error> for Failure {
    fn from(error: cdflow_bus::Error) -> Self {
        tracing::error!(%error, "the bus");
        Self::Unavailable(error.to_string())
    }
}

impl From<command::Error> for Failure {
    fn from(error: command::Error) -> Self {
        match error {
            command::Error::Bus(error) => error.into(),
            command::Error::ReadModel(error) => error.into(),
        }
    }
}

impl From<cdflow_access::Error> for Failure {
    fn from(error: cdflow_access::Error) -> Self {
        match error {
            cdflow_access::Error::Denied(denial) => Self::NotSignedIn(denial.to_string()),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::TooLarge("the request is larger than this address takes".into());
        }
        Self::BadRequest(rejection.body_text())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}
