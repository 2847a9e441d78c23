//! One look at the counters of one instance.

use std::time::Duration;

use cdflow_protocol::v1::{Instance, Reading};
use futures::StreamExt as _;
use reqwest::{Client, StatusCode, header, redirect};

use super::{
    exposition::{ExpositionError, samples},
    selector::Selector,
};

/// A page of metrics larger than this is not read to its end.
pub const MAX_BODY: usize = 16 << 20;

/// Standard name of the time at which a process started.
const STARTED: &str = "process_start_time_seconds";

/// Why an instance could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeError {
    /// Where metrics should be is no URL.
    #[error("`{0}` is no URL")]
    Url(String),
    /// No connection, or it broke.
    #[error("{url} could not be reached: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// It did not answer in time.
    #[error("{url} did not answer within {} ms", .within.as_millis())]
    Timeout {
        /// Where.
        url: String,
        /// How long it had.
        within: Duration,
    },
    /// It answered something else than 200.
    #[error("{url} answered {status}")]
    Status {
        /// Where.
        url: String,
        /// What.
        status: StatusCode,
    },
    /// More than [`MAX_BODY`].
    #[error("{url} answered more than {} MiB", MAX_BODY >> 20)]
    TooLarge {
        /// Where.
        url: String,
    },
    /// Not text.
    #[error("{url} answered bytes that are not UTF-8")]
    NotText {
        /// Where.
        url: String,
    },
    /// No sample at all.
    #[error("{url} answered a page without a single metric")]
    Empty {
        /// Where.
        url: String,
    },
    /// Not metrics.
    #[error("{url}: {error}")]
    Garbage {
        /// Where.
        url: String,
        /// The line.
        error: ExpositionError,
    },
    /// A counter that is negative, infinite or no number.
    #[error("{url}: line {line}: `{name}` is {value}, which is no count")]
    NotACount {
        /// Where.
        url: String,
        /// The line.
        line: usize,
        /// Of which metric.
        name: String,
        /// What it was.
        value: f64,
    },
}

/// Sums over the series of one page.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PageTotals {
    /// Of the selector of requests; 0 when no series matches, as before the first request.
    pub requests: f64,
    /// Of the selector of errors; 0 when no series matches.
    pub errors: f64,
    /// Unix seconds, 0 when the page does not say.
    pub started: f64,
}

/// What is read, and from where on each instance.
#[derive(Debug, Clone)]
pub struct Scrape {
    client: Client,
    path: String,
    requests: Selector,
    errors: Selector,
    within: Duration,
}

impl Scrape {
    /// Reads `path` of instances, each within `within`.
    ///
    /// # Errors
    /// When no HTTP client can be made on this machine.
    pub fn new(path: &str, requests: Selector, errors: Selector, within: Duration) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(within)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("cdflow-verifier/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, path: path.to_owned(), requests, errors, within })
    }

    /// The reading of one instance; a failure is in it.
    pub async fn reading(&self, instance: &Instance, canary: bool) -> Reading {
        let blank = Reading { instance_id: instance.id.clone(), canary, ..Reading::default() };
        match self.totals(&instance.url).await {
            Ok(PageTotals { requests, errors, started }) => Reading { requests, errors, started, ..blank },
            Err(error) => Reading { failure: error.to_string(), ..blank },
        }
    }

    /// The sums of one instance.
    ///
    /// # Errors
    /// See [`ScrapeError`].
    pub async fn totals(&self, base: &str) -> Result<PageTotals, ScrapeError> {
        let url = self.url(base)?;
        let body = self.page(&url).await?;
        let text = std::str::from_utf8(&body).map_err(|_| ScrapeError::NotText { url: url.clone() })?;
        self.sums(&url, text)
    }

    fn url(&self, base: &str) -> Result<String, ScrapeError> {
        let text = format!("{}/{}", base.trim_end_matches('/'), self.path.trim_start_matches('/'));
        reqwest::Url::parse(&text).map(|_| text.clone()).map_err(|_| ScrapeError::Url(text))
    }

    async fn page(&self, url: &str) -> Result<Vec<u8>, ScrapeError> {
        let accept = "text/plain;version=0.0.4;q=1,*/*;q=0.1";
        let response = self.client.get(url).header(header::ACCEPT, accept).send().await;
        let response = response.map_err(|error| self.failed(url, &error))?;
        if response.status() != StatusCode::OK {
            return Err(ScrapeError::Status { url: url.to_owned(), status: response.status() });
        }
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.failed(url, &error))?;
            if body.len() + chunk.len() > MAX_BODY {
                return Err(ScrapeError::TooLarge { url: url.to_owned() });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn sums(&self, url: &str, text: &str) -> Result<PageTotals, ScrapeError> {
        let mut totals = PageTotals::default();
        let mut is_empty = true;
        for sample in samples(text) {
            let (line, sample) = sample.map_err(|error| ScrapeError::Garbage { url: url.to_owned(), error })?;
            is_empty = false;
            for (selector, total) in [(&self.requests, &mut totals.requests), (&self.errors, &mut totals.errors)] {
                if !selector.matches(&sample) {
                    continue;
                }
                if !(sample.value >= 0.0 && sample.value.is_finite()) {
                    let (name, value) = (sample.name.to_owned(), sample.value);
                    return Err(ScrapeError::NotACount { url: url.to_owned(), line, name, value });
                }
                *total += sample.value;
            }
            if sample.name == STARTED && sample.value.is_finite() {
                totals.started = sample.value;
            }
        }
        if is_empty { Err(ScrapeError::Empty { url: url.to_owned() }) } else { Ok(totals) }
    }

    fn failed(&self, url: &str, error: &reqwest::Error) -> ScrapeError {
        if error.is_timeout() {
            return ScrapeError::Timeout { url: url.to_owned(), within: self.within };
        }
        // The innermost cause says what happened ("Connection refused"); the outer ones repeat the URL.
        let mut reason: &dyn std::error::Error = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        ScrapeError::Unreachable { url: url.to_owned(), reason: reason.to_string() }
    }
}
