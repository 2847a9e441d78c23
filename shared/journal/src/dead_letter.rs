//! Signals that could not be decided, kept for a person (rule 12).

use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use cdflow_bus::Bus;
use cdflow_protocol::streams;

use crate::commit::DeadLetter;

/// Header with the stable code of the refusal.
pub const REFUSAL_CODE: &str = "Cdflow-Refusal";
/// Header with the sentence for a person.
pub const REFUSAL_MESSAGE: &str = "Cdflow-Refusal-Message";

/// Stores a letter; returns when it is stored, so that its signal may be acknowledged.
pub(crate) async fn store(bus: &Bus, subject: &str, letter: DeadLetter) {
    loop {
        let message = PublishMessage::build()
            .payload(letter.body.clone())
            .message_id(format!("dead.{}", letter.id))
            .expected_stream(streams::DEAD)
            .header(REFUSAL_CODE, one_line(&letter.code).as_str())
            .header(REFUSAL_MESSAGE, one_line(&letter.message).as_str())
            .header(streams::TRACEPARENT, one_line(&letter.traceparent).as_str());
        let sent = match bus.context().send_publish(subject.to_owned(), message).await {
            Ok(answer) => answer.await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, subject, "a dead letter is not stored yet");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// Text that fits in a header.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}
