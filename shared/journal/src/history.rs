//! Reading stored messages in batches, without a consumer: one request, many answers (batched direct get).

use std::time::Duration;

use async_nats::{Client, HeaderMap, header};
use bytes::Bytes;
use futures::StreamExt as _;

use crate::Error;

/// A stored message.
#[derive(Debug)]
pub(crate) struct StoredMessage {
    pub(crate) subject: String,
    pub(crate) sequence: u64,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

const SILENCE: Duration = Duration::from_secs(5);

/// Up to 500 messages (or 8 MiB) of a subject, which may have wildcards, from `from` on. Any replica may answer, so the
/// end of what comes is not the end of what is stored: compare with the leader's.
pub(crate) async fn read_from(
    client: &Client,
    stream: &str,
    subject: &str,
    from: u64,
) -> Result<Vec<StoredMessage>, Error> {
    let query = format!(r#"{{"seq":{from},"next_by_subj":"{subject}","batch":500,"max_bytes":8388608}}"#);
    direct_get(client, stream, query, SILENCE).await
}

/// The last message of every subject that matches.
pub(crate) async fn read_last_of_each(
    client: &Client,
    stream: &str,
    subject: &str,
    silence: Duration,
) -> Result<Vec<StoredMessage>, Error> {
    direct_get(client, stream, format!(r#"{{"multi_last":["{subject}"]}}"#), silence).await
}

async fn direct_get(
    client: &Client,
    stream: &str,
    query: String,
    silence: Duration,
) -> Result<Vec<StoredMessage>, Error> {
    let failed = |reason: String| Error::request(format!("read {stream}"), reason);
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|e| failed(e.to_string()))?;
    client
        .publish_with_reply(format!("$JS.API.DIRECT.GET.{stream}"), inbox, query.into())
        .await
        .map_err(|e| failed(e.to_string()))?;
    let mut messages = Vec::new();
    loop {
        let answer = tokio::time::timeout(silence, answers.next())
            .await
            .map_err(|_| failed(format!("no answer within {} ms", silence.as_millis())))?
            .ok_or_else(|| failed("the connection was closed".into()))?;
        match answer.status.map(|status| status.as_u16()) {
            None | Some(200) => {}
            // End of the batch; nothing there.
            Some(204 | 404) => return Ok(messages),
            Some(status) => return Err(failed(format!("status {status} {}", answer.description.unwrap_or_default()))),
        }
        let headers = answer.headers.unwrap_or_default();
        let subject = headers.get(header::NATS_SUBJECT).map(ToString::to_string);
        let sequence = headers.get(header::NATS_SEQUENCE).and_then(|value| value.as_str().parse().ok());
        let (Some(subject), Some(sequence)) = (subject, sequence) else {
            return Err(failed("an answer without subject or sequence".into()));
        };
        messages.push(StoredMessage { subject, sequence, headers, body: answer.payload });
    }
}
