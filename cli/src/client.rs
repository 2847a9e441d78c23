//! Talks to the REST API of the console.

use std::time::Duration;

use anyhow::{Context as _, Result};
use cdflow_console::api::{BASE, PROBLEM_JSON, Problem};
use futures::{Stream, StreamExt as _};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::{Serialize, de::DeserializeOwned};

use crate::{exit::Failure, settings::Settings, sse};

/// A connection to one console, as one person.
pub(crate) struct Client {
    http: reqwest::Client,
    server: String,
    token: String,
}

impl Client {
    /// `--server` and `--token` win over what `cdflow login` remembered.
    pub(crate) fn new(server: Option<&str>, token: Option<&str>) -> Result<Self> {
        let kept = Settings::load();
        let server = server.map(str::to_owned).or_else(|| kept.as_ref().map(|kept| kept.server.clone()));
        let server = server.unwrap_or_else(|| "http://127.0.0.1:7700".into()).trim_end_matches('/').to_owned();
        // A token belongs to the server that gave it out.
        let kept_token = kept.filter(|kept| kept.server.trim_end_matches('/') == server).map(|kept| kept.token);
        let token = token.map(str::to_owned).or(kept_token).unwrap_or_default();
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).build()?;
        Ok(Self { http, server, token })
    }

    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    pub(crate) async fn get<A: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<A> {
        self.json(self.request(Method::GET, path).query(query)).await
    }

    pub(crate) async fn post<A: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<A> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn put<A: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<A> {
        self.json(self.request(Method::PUT, path).json(body)).await
    }

    /// Server-sent events until the server ends them.
    pub(crate) async fn events<Q: Serialize>(
        &self,
        path: &str,
        query: &Q,
    ) -> Result<impl Stream<Item = Result<sse::Event>> + use<Q>> {
        let response = self.send(self.request(Method::GET, path).query(query)).await?;
        let chunks = response.bytes_stream().map(|chunk| chunk.context("the connection to the console was lost"));
        Ok(sse::events(chunks))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{BASE}{path}", self.server));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    async fn json<A: DeserializeOwned>(&self, request: RequestBuilder) -> Result<A> {
        let response = self.send(request.timeout(Duration::from_secs(30))).await?;
        response.json().await.context("the console's answer is not what this version of cdflow expects")
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|error| Failure::Unreachable {
            server: self.server.clone(),
            reason: format!("{:#}", anyhow::Error::new(error.without_url())),
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refused(response).await.into())
    }
}

async fn refused(response: Response) -> Failure {
    let status = response.status();
    let is_problem = response
        .headers()
        .get(reqwest::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with(PROBLEM_JSON));
    let text = response.text().await.unwrap_or_default();
    let problem = if is_problem { serde_json::from_str::<Problem>(&text).ok() } else { None };
    match (status, problem) {
        (StatusCode::UNAUTHORIZED, _) => Failure::Unknown,
        (_, Some(problem)) => Failure::Refused(Box::new(problem)),
        (status, None) => Failure::Unexpected { status: status.as_u16() },
    }
}
