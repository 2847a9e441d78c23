//! Appending a commit, and what each answer means (rule 8).

use std::{error::Error as _, time::Duration};

use async_nats::jetstream::{
    self, ErrorCode,
    context::PublishErrorKind,
    message::PublishMessage,
    stream::{LastRawMessageErrorKind, Stream},
};
use bytes::Bytes;
use cdflow_protocol::streams;
use tokio::time::Instant;

use crate::{Error, JournalMetrics};

/// Between two complaints about a full JOURNAL.
const SAY_FULL_EVERY: Duration = Duration::from_secs(30);

/// An append that will never succeed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Another owner has appended.
    Fenced {
        /// The last sequence of the subject.
        tail: u64,
    },
    /// The server takes no message of this size.
    TooLarge,
}

/// What an answer to an append says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Stored(u64),
    /// The condition does not hold, or did not when a copy of these bytes came first: the tail decides.
    AskTail,
    /// Stored or not: the same bytes are sent again.
    Unknown,
    TooLarge,
}

fn judge(kind: PublishErrorKind, code: Option<ErrorCode>) -> Answer {
    const CONFLICTS: [ErrorCode; 2] =
        [ErrorCode::STREAM_WRONG_LAST_SEQUENCE, ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT];
    match (kind, code) {
        (PublishErrorKind::WrongLastSequence, _) => Answer::AskTail,
        (_, Some(code)) if CONFLICTS.contains(&code) => Answer::AskTail,
        (PublishErrorKind::MaxPayloadExceeded, _) => Answer::TooLarge,
        // 10158 (a copy is being stored), 503, a timeout, a full stream, a leader election: nobody knows, or not yet.
        _ => Answer::Unknown,
    }
}

/// What the subject's last message says about an append of `id` after `expected`.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Stored(u64),
    SendAgain,
    Fenced(u64),
}

fn judge_tail(tail: Option<(u64, Option<&str>)>, expected: u64, id: &str) -> Verdict {
    match tail {
        Some((sequence, Some(found))) if found == id => Verdict::Stored(sequence),
        Some((sequence, _)) if sequence == expected => Verdict::SendAgain,
        None if expected == 0 => Verdict::SendAgain,
        Some((sequence, _)) => Verdict::Fenced(sequence),
        None => Verdict::Fenced(0),
    }
}

/// The last message of a subject, read from the stream's leader: a direct get may be answered by a replica that is
/// behind.
pub(crate) struct Tail {
    pub(crate) sequence: u64,
    pub(crate) id: Option<String>,
    pub(crate) body: Bytes,
}

pub(crate) async fn read_tail(stream: &Stream<()>, subject: &str) -> Result<Option<Tail>, Error> {
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => Ok(Some(Tail {
            sequence: message.sequence,
            id: message.headers.get(async_nats::header::NATS_MESSAGE_ID).map(ToString::to_string),
            body: message.payload,
        })),
        Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
        Err(error) => Err(Error::request(format!("read the last message of {subject}"), error)),
    }
}

/// Appends `body` after the message with sequence `expected` (0: there is none). Tries until the answer is certain:
/// dropping the future is how to stop, and then the append may still be stored.
pub(crate) async fn append(
    stream: &Stream<()>,
    context: &jetstream::Context,
    metrics: &JournalMetrics,
    subject: &str,
    id: &str,
    expected: u64,
    body: Bytes,
) -> Result<u64, Failed> {
    let mut pause = Duration::from_millis(20);
    let mut said_full: Option<Instant> = None;
    loop {
        let message = PublishMessage::build()
            .payload(body.clone())
            .message_id(id)
            .expected_stream(streams::JOURNAL)
            .expected_last_subject_sequence(expected);
        let sent = match context.send_publish(subject.to_owned(), message).await {
            Ok(answer) => answer.await,
            Err(error) => Err(error),
        };
        let answer = match &sent {
            Ok(stored) => Answer::Stored(stored.sequence),
            Err(error) => judge(error.kind(), code_of(error)),
        };
        let verdict = match answer {
            Answer::Stored(sequence) => return Ok(sequence),
            Answer::TooLarge => return Err(Failed::TooLarge),
            Answer::Unknown => Verdict::SendAgain,
            Answer::AskTail => match read_tail(stream, subject).await {
                Ok(tail) => judge_tail(tail.as_ref().map(|tail| (tail.sequence, tail.id.as_deref())), expected, id),
                Err(error) => {
                    tracing::debug!(%error, subject, "after a refused append");
                    Verdict::SendAgain
                }
            },
        };
        match verdict {
            Verdict::Stored(sequence) => return Ok(sequence),
            Verdict::Fenced(tail) => return Err(Failed::Fenced { tail }),
            Verdict::SendAgain => {
                if let Err(error) = &sent
                    && is_full(code_of(error))
                {
                    metrics.appends_refused_full.add(1);
                    if said_full.is_none_or(|said| said.elapsed() >= SAY_FULL_EVERY) {
                        said_full = Some(Instant::now());
                        tracing::error!(reason = %explain(error), "{}", Error::Full { subject: subject.to_owned() });
                    }
                } else if let Err(error) = &sent {
                    tracing::warn!(error = %explain(error), subject, "append not confirmed, sending the same bytes again");
                }
                metrics.appends_repeated.add(1);
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(Duration::from_secs(1));
            }
        }
    }
}

/// Whether a stream, an account or the server has no room.
fn is_full(code: Option<ErrorCode>) -> bool {
    const FULL: [ErrorCode; 3] =
        [ErrorCode::STREAM_STORE_FAILED, ErrorCode::INSUFFICIENT_RESOURCES, ErrorCode::STORAGE_RESOURCES_EXCEEDED];
    code.is_some_and(|code| FULL.contains(&code))
}

fn code_of(error: &jetstream::context::PublishError) -> Option<ErrorCode> {
    error.source()?.downcast_ref::<jetstream::Error>().map(jetstream::Error::error_code)
}

fn explain(error: &jetstream::context::PublishError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn conflicts_ask_the_tail_and_everything_unclear_is_sent_again() {
        let other = PublishErrorKind::Other;
        assert_eq!(judge(PublishErrorKind::WrongLastSequence, None), Answer::AskTail);
        assert_eq!(judge(other, Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE)), Answer::AskTail);
        assert_eq!(judge(other, Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT)), Answer::AskTail);
        assert_eq!(judge(other, Some(ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT)), Answer::Unknown);
        for kind in [PublishErrorKind::TimedOut, PublishErrorKind::StreamNotFound, PublishErrorKind::BrokenPipe, other]
        {
            assert_eq!(judge(kind, None), Answer::Unknown);
        }
        assert_eq!(judge(PublishErrorKind::MaxPayloadExceeded, None), Answer::TooLarge);
    }

    proptest! {
        #[test]
        fn only_my_id_is_stored_and_only_the_expected_tail_is_tried_again(
            tail in prop::option::of((1_u64..5, prop::option::of(prop::sample::select(vec!["mine", "other"])))),
            expected in 0_u64..5,
        ) {
            let mine = matches!(tail, Some((_, Some("mine"))));
            let at_expected = tail.map_or(0, |(sequence, _)| sequence) == expected;
            match judge_tail(tail, expected, "mine") {
                Verdict::Stored(sequence) => prop_assert!(mine && tail.is_some_and(|t| t.0 == sequence)),
                Verdict::SendAgain => prop_assert!(!mine && at_expected),
                Verdict::Fenced(_) => prop_assert!(!mine && !at_expected),
            }
        }
    }
}
