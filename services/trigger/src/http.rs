//! CI events over HTTP: `POST /v1/events` takes a CloudEvent in structured or binary mode and answers 202 when it is
//! stored on `cdflow.ci.http.<type>`. From there it goes the way of every other event.

mod problem;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use cdflow_access::{Access, bearer_token};
use cdflow_bus::Bus;
use cdflow_protocol::{streams, subjects, wall_clock};
use cdflow_telemetry::health::{self, Check};
use cloudevents::AttributesReader as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Parts, cloud_event::traceparent, counts::Counts, intake::message_id};
use problem::Problem;

/// How long a client may take to send its body.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// What the edge needs.
pub(crate) struct Edge {
    pub(crate) bus: Bus,
    /// `None`: whoever reaches the loopback address may publish.
    pub(crate) access: Option<Access>,
    pub(crate) max_event_bytes: usize,
    pub(crate) counts: Arc<Counts>,
    pub(crate) checks: Vec<Check>,
}

/// Answers until `stop`.
pub(crate) async fn serve(edge: Edge, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/v1/events", post(take_event))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async |State(edge): State<Arc<Edge>>| health::ready(&edge.checks)))
        .route("/metrics", get(async |State(edge): State<Arc<Edge>>| edge.counts.text()))
        .with_state(Arc::new(edge));
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await?;
    Ok(())
}

async fn take_event(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    match edge.take(request).await {
        Ok(stored) => (StatusCode::ACCEPTED, Json(stored)).into_response(),
        Err(problem) => {
            edge.counts.refused();
            problem.into_response()
        }
    }
}

/// The answer to an event that is stored.
#[derive(serde::Serialize)]
struct Stored {
    source: String,
    id: String,
    /// Stream sequence, for `nats stream get CI`. The same as before for an event that was stored within two minutes.
    sequence: u64,
}

impl Edge {
    async fn take(&self, request: Request) -> Result<Stored, Problem> {
        // Before a byte of the body is read.
        self.authenticate(request.headers()).await?;
        let (head, body) = request.into_parts();
        let body = self.body(&head.headers, body).await?;
        let headers = head
            .headers
            .iter()
            .map(|(name, value)| value.to_str().map(|value| (name.as_str(), value)))
            .filter(|header| {
                header.as_ref().map_or(true, |(name, _)| name.starts_with("ce-") || *name == "content-type")
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| {
                Problem::malformed("a header is not ASCII: percent-encode it (CloudEvents HTTP binding, 3.1.3.2)")
            })?;
        let parts = Parts::new(headers, &body);
        if !parts.claims_to_be_an_event() {
            return Err(Problem::not_an_event());
        }
        let event = parts.event().map_err(|error| Problem::malformed(error.to_string()))?;
        let stored = serde_json::to_vec(&event).map_err(|error| Problem::malformed(error.to_string()))?;
        let (source, id) = (event.source().clone(), event.id().to_owned());
        let subject = subjects::ci("http", event.ty());
        let sequence = self
            .bus
            .publish_stored(streams::CI, &subject, &message_id(&source, &id), &traceparent(&event), stored.into())
            .await
            .map_err(|error| Problem::not_stored(&error))?;
        Ok(Stored { source, id, sequence })
    }

    async fn authenticate(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(access) = &self.access else { return Ok(()) };
        let presented = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = bearer_token(presented).map_err(cdflow_access::Error::from)?;
        access.authenticate_ci(token, wall_clock()).await?;
        Ok(())
    }

    async fn body(&self, headers: &HeaderMap, body: Body) -> Result<axum::body::Bytes, Problem> {
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > self.max_event_bytes) {
            return Err(Problem::too_large(self.max_event_bytes));
        }
        match tokio::time::timeout(BODY_WITHIN, to_bytes(body, self.max_event_bytes)).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) if is_limit(&error) => Err(Problem::too_large(self.max_event_bytes)),
            Ok(Err(error)) => Err(Problem::malformed(format!("the body ended early: {error}"))),
            Err(_) => Err(Problem::too_slow(BODY_WITHIN)),
        }
    }
}

fn is_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}
